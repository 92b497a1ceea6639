"""pstatus --top: the live view.  Only `screen` imports prompt_toolkit; all others are text and data."""
