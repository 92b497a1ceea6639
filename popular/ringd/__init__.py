"""ringd: opens low TCP ports for programs that have no right to (spec 10.3)."""
