"""Where mailboxes go: the spool, and plmtpd on another host."""
