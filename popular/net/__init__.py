"""Sockets: lines with limits, listening, dialling, relaying.  Knows neither processes nor mailboxes."""
