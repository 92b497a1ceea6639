"""A new configuration for a running daemon: read, merged with what commands have set, and put into force."""
