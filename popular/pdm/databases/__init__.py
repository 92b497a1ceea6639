"""What modules of the same kind of database share: its files, its servers, and the connections to them."""
