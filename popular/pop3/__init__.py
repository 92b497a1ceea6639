"""The POP3 protocol (RFC 1939, 2449) as states of commands; knows neither processes nor disks."""
