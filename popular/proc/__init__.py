"""Processes: forking, signals, rights, pid files.  Knows no mail and no setting."""
