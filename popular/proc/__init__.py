"""Processes: forking, signals, rights, pipes between master and children; independent of mail and protocols."""
