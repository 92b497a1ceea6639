"""pclean(8): removes old messages and mailboxes."""
