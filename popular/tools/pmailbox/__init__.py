"""pmailbox: which mailbox a user has, and what it holds."""
