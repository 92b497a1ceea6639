"""Relaying between a client and a backend: one pair in the process that logged it in, or many in one of their own."""
