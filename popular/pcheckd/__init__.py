"""pcheckd, the daemon that answers mail checks (spec 3)."""
