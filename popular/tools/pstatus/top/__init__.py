"""pstatus --top: the live view.  `screen` alone imports prompt_toolkit, all others are text and data."""
