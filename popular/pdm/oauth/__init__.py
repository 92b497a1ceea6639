"""OAuth: checking the tokens of clients, and getting those that backends want."""
