"""ringd: opens low TCP ports for programs that may not open them themselves (spec 10.3)."""
