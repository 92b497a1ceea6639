"""Sockets: lines with limits, listening, dialling, relaying.  Knows no processes and no mailbox."""
