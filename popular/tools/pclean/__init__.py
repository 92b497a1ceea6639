"""pclean(8), which removes old messages and mailboxes."""
