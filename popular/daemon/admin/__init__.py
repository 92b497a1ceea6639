"""Administration of a running master: control commands."""
