"""Asking the configured modules in order: in the process that asks, or over a channel to a worker."""
