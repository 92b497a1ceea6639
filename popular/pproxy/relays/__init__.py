"""Relayed sessions that outlive their children (pproxy)."""
