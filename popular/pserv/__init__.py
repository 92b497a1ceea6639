"""pserv, the storage server: POP3 over Maildirs after an XPOP preamble (spec 2)."""
