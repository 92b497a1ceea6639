"""Mailboxes on disk: the extended Maildir (spec 9.1) and foreign Maildirs, reading and delivering."""
