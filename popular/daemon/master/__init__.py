"""The master: its loop, and the tasks that run in it."""
