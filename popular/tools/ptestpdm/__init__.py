"""ptestpdm: asks the database modules, and shows how a login goes."""
