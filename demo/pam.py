"""A service of PAM whose users are in a file, with their passwords in clear: for the demo, and for tests."""

from collections.abc import Mapping
from pathlib import Path

# PAM's own modules do it, but for the password: there is none for text files.
_SERVICE = """\
auth [success=1 auth_err=ignore default=die] pam_listfile.so item=user sense=allow onerr=fail quiet [file={names}]
auth requisite pam_debug.so auth=user_unknown
auth [success=1 default=ignore] pam_exec.so quiet expose_authtok [{script}]
auth requisite pam_deny.so
auth required pam_permit.so
account required pam_permit.so
"""
_SCRIPT = """\
#!/bin/sh
IFS= read -r password
printf '%s\\n' "$PAM_USER:$password" | LC_ALL=C grep -qxF -f - '{passwords}'
"""


def write_service(folder: Path, service: str, users: Mapping[str, str]) -> None:
    """Write the service and what it needs to a folder, for users with their passwords, which have no line ends."""
    names, passwords, script = (folder / f"{service}.{end}" for end in ("names", "passwords", "sh"))
    names.write_text("".join(f"{user}\n" for user in users), encoding="utf-8")
    passwords.touch(0o600)
    passwords.write_text("".join(f"{user}:{password}\n" for user, password in users.items()), encoding="utf-8")
    script.write_text(_SCRIPT.format(passwords=passwords))
    script.chmod(0o755)
    (folder / service).write_text(_SERVICE.format(names=names, script=script))
