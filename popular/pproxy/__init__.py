"""pproxy, the POP3 proxy: logs clients in, plays empty mailboxes, relays to backends (spec 1)."""
