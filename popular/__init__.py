"""POPular for Python: a POP3 proxy and mail store for large mail systems."""
