"""The protocol of ringd: its packets, and the client that starters and masters use."""
