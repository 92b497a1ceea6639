"""SASL mechanisms from the server's side (RFC 4422): octets in, challenges and credentials out."""
