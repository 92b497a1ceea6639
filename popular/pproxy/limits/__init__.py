"""Limits for clients of pproxy: how many connections, how often, and how many failed logins."""
