"""Counts of clients that are shared with other proxies, by way of Redis or Valkey."""
