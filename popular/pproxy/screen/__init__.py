"""Screening clients while the pool is full: only those that talk get a child, newcomers before those that stalled."""
