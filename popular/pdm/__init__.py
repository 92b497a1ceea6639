"""Database modules (PDMs): their interface, loading, the chain that asks them, and password checks (spec 7)."""
