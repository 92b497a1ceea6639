"""Database modules in pproxy: those of the configuration, what they write, and the workers for those that may wait."""
