"""Processes: forking, signals, pipes between master and children; independent of mail and protocols."""
