"""The skeleton every daemon shares: starter, master, accepting, one connection's session."""
