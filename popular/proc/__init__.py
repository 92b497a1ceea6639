"""Processes: forking, signals, rights, pipes between master and children; knows no mail and no protocol."""
