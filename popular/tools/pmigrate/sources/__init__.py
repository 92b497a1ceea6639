"""Where mailboxes come from: files of other servers, and servers."""
