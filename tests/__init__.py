"""The tests of POPular: `unit` (quick, no processes), `system` (real daemons), `meta` (the house rules)."""
