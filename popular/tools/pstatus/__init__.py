"""pstatus(1), which shows what state files tell."""
