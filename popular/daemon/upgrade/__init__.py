"""Replacing a running master by one of another version, without losing a session."""
