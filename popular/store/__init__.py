"""Mailboxes on disk: the extended Maildir (spec 9.1) and foreign Maildirs, for reading and delivering."""
