"""The master: one loop, and what has its turn in it."""
