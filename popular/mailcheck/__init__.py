"""MAILCHECK: the one-datagram question whether a mailbox has mail (spec 8.2), both sides."""
