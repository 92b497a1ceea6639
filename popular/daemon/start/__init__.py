"""From the options of a start to a running master."""
