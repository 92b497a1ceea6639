"""Backends: where the mail of a user is, whether a backend is asked, and the login there."""
