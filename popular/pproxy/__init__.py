"""pproxy, the POP3 proxy: logs clients in, shows empty mailboxes, relays to backends (spec 1)."""
