"""What the children of all programs have in common: accepting, a session's frame, the warm-up."""
