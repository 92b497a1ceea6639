"""Delivering mail into mailboxes, and what deliverers log."""
