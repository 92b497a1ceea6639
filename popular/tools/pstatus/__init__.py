"""pstatus(1), which shows the content of state files."""
