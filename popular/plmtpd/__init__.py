"""plmtpd, the delivery server: takes mail by LMTP (RFC 2033) and writes it to Maildirs."""
