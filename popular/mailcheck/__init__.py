"""MAILCHECK: the question, in one datagram, whether a mailbox has mail (spec 8.2); client and server."""
