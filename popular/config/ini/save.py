"""Writing into an INI file what commands have changed: whole or not at all, with the old file beside it.

Used by pcontrol, with the rights of whoever runs it.  Raises UsageError for what must not be done, ConfigError
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

OLD = ".old"    # behind the name of the file as it was
_NEW = ".new"

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Original:
    """The file as it is now."""

    raw: bytes
    status: os.stat_result
    attributes: tuple[tuple[str, bytes], ...]    # extended ones, lists of access rights among them

    @property
    def digest(self) -> str:
        """SHA-256 of what stands in it, in hex."""
        return hashlib.sha256(self.raw).hexdigest()


def save(told: Told, schema: Schema) -> str:
    """Write the changes that a daemon has told into its file; returns the name of that file.

    Refused when the file is another than the daemon has read, when a change is none that a command could make, and
    when the new file would not say what it should.  Owner, group, mode and extended attributes stay; a symbolic link
    stays, too, and what it leads to is written.
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
    """Return `config` with changes, as commands would make them; raises UsageError for what no command could."""
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
    """Tell whether a file is an INI file of this program, and says something; raises ConfigError."""
    config = read_ini(path, schema, default_config(schema))
    return config != default_config(schema)


def want_good_file(told: Told, schema: Schema) -> None:
    """Raise ConfigError for a file with mistakes, UsageError for another one than the daemon has read."""
    if not told.digest and not os.path.lexists(told.path):    # it has read none
        return
    source = read_ini(told.path, schema, default_config(schema)).source
    _want_unchanged(source.digest if source else "", told)


def _want_unchanged(digest: str, told: Told) -> None:
    """Raise UsageError when the file is another one than the daemon has read."""
    if digest != told.digest:
        raise UsageError(f"{told.path} was changed after the daemon had read it; nothing was written: reload first, "
                         "and see what it says")


def _want_no_other(folder: int, path: str) -> None:
    """Keep out others that save into this folder, until the descriptor is closed: their new files have these names."""
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
    """Write a new file that belongs to whom the original does, and sync it; returns its name."""
    try:
        os.unlink(name, dir_fd=folder)    # left by one that was killed
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
            if not attribute.startswith("security."):    # the kernel's, of a module that labels new files itself
                os.setxattr(fd, attribute, value)
        os.fchmod(fd, stat.S_IMODE(like.status.st_mode) & 0o777)
        os.fsync(fd)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(fd)
    return name
