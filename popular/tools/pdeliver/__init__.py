"""pdeliver: delivers one mail into a mailbox."""
