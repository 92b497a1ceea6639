"""Saving the changes of commands into an INI file: completely or not at all, with the old file kept beside it.

Used by pcontrol, with the rights of the user who runs it.  Raises UsageError for what must not be done, ConfigError
for a file with mistakes, and OSError.
"""

import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass

from popular.config.changes import Change, Told
from popular.config.ini.edit import edited
from popular.config.ini.file import MAX_BYTES, read_ini
from popular.config.setting import Schema
from popular.config.store import FROM_FILE, Config, default_config, with_item, with_variable, without_item
from popular.errors import UsageError

OLD = ".old"    # appended to the name of the old file
_NEW = ".new"

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Original:
    """The file as it is now."""

    raw: bytes
    status: os.stat_result
    attributes: tuple[tuple[str, bytes], ...]    # extended ones, including access control lists

    @property
    def digest(self) -> str:
        """SHA-256 of its content, in hex."""
        return hashlib.sha256(self.raw).hexdigest()


def save(told: Told, schema: Schema) -> str:
    """Write the changes that a daemon has reported into its file; returns the name of that file.

    Refused when the daemon has read another version of the file, when no command could make one of the changes, and
    when the new file would not read back as intended.  Owner, group, mode and extended attributes stay; a symbolic
    link stays, too, and its target is written.
    """
    path = os.path.realpath(told.path)
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _want_no_other(fd, path)
        original = _read(fd, name, path)
        _want_unchanged(original.digest, told)
        before = read_ini(path, schema, default_config(schema))
        wanted = changed(before, schema, told.changes)
        new = _write(fd, name + _NEW, _text(original.raw, told.changes), original)
        try:
            if read_ini(os.path.join(folder, new), schema, default_config(schema)) != wanted:
                raise UsageError(f"{path}: its layout is not understood; write the changes into it by hand")
            _want_unchanged(_read(fd, name, path).digest, told)
            old = _write(fd, name + OLD + _NEW, original.raw, original)
            os.rename(old, name + OLD, src_dir_fd=fd, dst_dir_fd=fd)
            os.rename(new, name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            os.unlink(new, dir_fd=fd)
            raise
        os.fsync(fd)
    finally:
        os.close(fd)
    return path


def changed(config: Config, schema: Schema, changes: tuple[Change, ...]) -> Config:
    """Return `config` with changes made as by commands; raises UsageError for what no command could change."""
    for change in changes:
        if change.section == schema.program and not change.ident:
            for name, text in change.values.items():
                config = with_variable(config, schema, name, text)
        elif change.is_gone:
            config = without_item(config, schema, change.section, change.ident)
        else:
            config = with_item(config, schema, change.section, change.ident, change.values, FROM_FILE,
                               keep=not change.is_new)
    return config


def holds(path: str, schema: Schema) -> bool:
    """Tell whether a file is an INI file of this program, with one section at least; raises ConfigError and OSError."""
    read_ini(path, schema, default_config(schema))    # so its sections are those of this program
    with open(path, encoding="utf-8-sig") as file:
        return any(line.lstrip().startswith("[") for line in file)


def want_good_file(told: Told, schema: Schema) -> None:
    """Raise ConfigError for a file with mistakes, UsageError for one that the daemon has not read."""
    if not told.digest and not os.path.lexists(told.path):    # it has read none
        return
    source = read_ini(told.path, schema, default_config(schema)).source
    _want_unchanged(source.digest if source else "", told)


def _want_unchanged(digest: str, told: Told) -> None:
    """Raise UsageError when the file has changed since the daemon read it."""
    if digest != told.digest:
        raise UsageError(f"{told.path} was changed after the daemon read it; nothing was written: reload first, "
                         "and see what it says")


def _want_no_other(folder: int, path: str) -> None:
    """Lock the folder against other saves, which use the same names, until the descriptor is closed."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: somebody else is saving; try again") from None


def _read(folder: int, name: str, path: str) -> _Original:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; make one, which may be empty, and reload") from None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: not a regular file")
        raw = file.read(MAX_BYTES + 1)
        attributes = tuple((each, os.getxattr(fd, each)) for each in os.listxattr(fd))
    return _Original(raw, status, attributes)


def _text(raw: bytes, changes: tuple[Change, ...]) -> bytes:
    """Return the content of the file with changes."""
    bom = _BOM if raw.startswith(_BOM) else b""
    lines = raw.decode("utf-8-sig").split("\n")
    return bom + "\n".join(edited(lines, changes)).encode()


def _write(folder: int, name: str, raw: bytes, like: _Original) -> str:
    """Write a new file with the owner of the original, and sync it; returns its name."""
    try:
        os.unlink(name, dir_fd=folder)    # left by a killed process
    except FileNotFoundError:
        pass
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(raw)
        own = os.fstat(fd)
        if (own.st_uid, own.st_gid) != (like.status.st_uid, like.status.st_gid):
            os.fchown(fd, like.status.st_uid, like.status.st_gid)
        for attribute, value in like.attributes:
            if not attribute.startswith("security."):    # set by the kernel's security modules
                os.setxattr(fd, attribute, value)
        os.fchmod(fd, stat.S_IMODE(like.status.st_mode) & 0o777)
        os.fsync(fd)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(fd)
    return name
