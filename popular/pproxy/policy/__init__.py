"""Asking a site's policy server about logins, in the JSON of Dovecot's auth_policy (design 5.10)."""
