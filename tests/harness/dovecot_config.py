"""Dovecot's two configuration languages: that of 2.3 (Debian 12) and that of 2.4 (Debian 13).

The templates in dovecot.py and tests/bench/configs are written once.  Their {words} that are in the table below become
text in the language of the installed Dovecot; then the values are filled in: folders, ports, users.
"""

from collections.abc import Mapping

VERSIONS = ("2.3", "2.4")

# What the versions call differently, in the order of VERSIONS.
LANGUAGES: Mapping[str, tuple[str, str]] = {
    "config_version": (
        "",
        "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0"),
    "allow_cleartext": (
        "disable_plaintext_auth = no",
        "auth_allow_cleartext = yes"),
    "maildir": (
        "mail_location = maildir:~/Maildir",
        "mail_driver = maildir\nmail_path = ~/Maildir"),
    "uidl_from_file_name": (
        "pop3_uidl_format = %g",
        "pop3_uidl_format = %{{guid}}"),
    "certificate_and_key": (
        "ssl_cert = <{certificate}\nssl_key = <{key}",
        "ssl_server_cert_file = {certificate}\nssl_server_key_file = {key}"),
    "any_number_of_deliveries": (
        "lmtp_user_concurrency_limit = 0",
        "lmtp_user_concurrency_limit = unlimited"),
    "processes_serve_without_end": (
        "service_count = 0",
        "restart_request_count = unlimited"),
    "processes_serve_1000": (
        "service_count = 1000",
        "restart_request_count = 1000"),
    "passdb": (
        "passdb {{\n  driver = passwd-file\n  args = scheme=plain {users}\n}}",
        "passdb passwd-file {{\n  passwd_file_path = {users}\n  default_password_scheme = plain\n}}"),
    "passdb_of_proxy": (
        "passdb {{\n  driver = passwd-file\n  args = {users}\n"
        "  default_fields = proxy=y host=127.0.0.1 port={backend}\n}}",
        "passdb passwd-file {{\n  passwd_file_path = {users}\n"
        "  fields {{\n    proxy = y\n    host = 127.0.0.1\n    port = {backend}\n  }}\n}}"),
    "passdb_of_masters": (
        "passdb {{\n  driver = passwd-file\n  args = scheme=plain {masters}\n  master = yes\n"
        "  result_success = continue\n}}",
        "passdb masters {{\n  driver = passwd-file\n  passwd_file_path = {masters}\n  default_password_scheme = plain\n"
        "  master = yes\n  result_success = continue\n}}"),
    "tokens": (
        "passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {oauth2}\n}}",
        "oauth2 {{\n  introspection_mode = post\n  introspection_url = {introspection}\n"
        "  username_attribute = username\n  active_attribute = active\n  active_value = true\n}}"),
    "userdb": (
        "userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={homes}/%u\n}}",
        "userdb static {{\n  fields {{\n    uid = {uid}\n    gid = {gid}\n    home = {homes}/%{{user}}\n  }}\n}}"),
}


def language_of(version: str) -> str | None:
    """Return which of VERSIONS `dovecot --version` means, for example 2.3.19.1 (9b53102964); None for another one."""
    return next((known for known in VERSIONS if version.startswith(f"{known}.")), None)


def configure(template: str, language: str, **words: object) -> str:
    """Return `template` in `language`, one of VERSIONS, with `words` filled in; raises KeyError for an unknown word."""
    column = VERSIONS.index(language)
    for name, texts in LANGUAGES.items():
        template = template.replace(f"{{{name}}}", texts[column])
    return template.format_map(words)
