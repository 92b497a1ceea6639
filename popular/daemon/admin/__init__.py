"""What an administrator asks of a running master: control commands, reload."""
