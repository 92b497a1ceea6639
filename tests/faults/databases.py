"""Scenes of the tools for databases of users: whatever fails, the old or the new database is there, and whole."""

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popular.pdm.databases import cdbfile
from popular.tools import plmdb
from tests.faults import BEGIN
from tests.faults.inject import Fault
from tests.faults.scene import CODE, LEFT, LOST, TORN, Scene, Seen, is_dead, may_leave
from tests.harness.needs import need_module

OLD, NEW = "old", "new"
USERS = {b"user%04d" % number: b"{PLAIN}new:store1::user%04d" % number for number in range(300)}


def lines_of(users: Mapping[bytes, bytes]) -> bytes:
    """Return the lines of users."""
    return b"".join(b"%b:%b\n" % user for user in users.items())


class DatabaseScene(Scene):
    """A tool changes a database; the faults begin when its command line is read."""

    marker = BEGIN
    loaded = "shutil, locale"    # what Python would otherwise load behind the marker
    file = "users"
    options: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    beside = 0           # files that belong there besides

    @property
    def path(self) -> Path:
        """The database."""
        return self.spool / self.file

    def program(self) -> list[str]:
        return [sys.executable, "-c", f"import os, sys, {self.loaded}; from popular.tools import {self.name}; "
                f"os.path.lexists('{BEGIN}'); sys.exit({self.name}.main())", *self.options, str(self.path), *self.user]

    def state(self) -> str:
        """Return OLD, NEW or TORN."""
        raise NotImplementedError

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        state = self.state()
        seen.unless(state != TORN, TORN)
        seen.unless(code != 0 or state == NEW, LOST)
        seen.unless(code in (0, 66, 70, 73) or is_dead(code, fault), CODE)
        seen.left += len(os.listdir(self.spool)) - 1 - self.beside
        seen.unless(not seen.left or may_leave(fault), LEFT)
        return seen


class ConstantDatabase(DatabaseScene):
    """pmakecdb replaces a database."""

    name = "pmakecdb"
    stdin = lines_of(USERS)

    def prepare(self) -> None:
        super().prepare()
        with open(self.path, "w+b") as file:
            cdbfile.write(file, [(b"user0001", b"{PLAIN}old:store1::user0001")])

    def state(self) -> str:
        octets = self.path.read_bytes()
        number = octets.count(b"{PLAIN}new")
        if number not in (0, 300) or (number > 0) is (b"{PLAIN}old" in octets):
            return TORN
        return NEW if number else OLD


class TextOfUsers(DatabaseScene):
    """ppasswd sets a password."""

    name = "ppasswd"
    stdin = b"secret\n"
    options = ("-s", "sha512")
    user = ("user0150",)

    def prepare(self) -> None:
        super().prepare()
        self.path.write_bytes(lines_of(USERS))
        self.path.chmod(0o640)

    def state(self) -> str:
        octets = self.path.read_bytes()
        before, after = lines_of(USERS).split(b"{PLAIN}new:store1::user0150")
        stored = octets.removeprefix(before).removesuffix(b":store1::user0150" + after)
        if stat.S_IMODE(self.path.stat().st_mode) != 0o640:
            return TORN
        if octets == lines_of(USERS):
            return OLD
        return NEW if re.fullmatch(rb"\{CRYPT\}\$6\$rounds=100000\$[./\w]{16}\$[./\w]{86}", stored) else TORN


class LmdbDatabase(DatabaseScene):
    """plmdb changes a database in place: if it reports a failure, nothing has changed.  The next one can go on."""

    name = "plmdb"
    loaded = f"{DatabaseScene.loaded}, lmdb"
    stdin = lines_of(USERS)
    beside = 1    # the lock
    before = {b"user0001": b"{PLAIN}old:store1::user0001", b"zoe": b"{PLAIN}old:store1::zoe"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lmdb: Any = need_module("lmdb")

    def prepare(self) -> None:
        super().prepare()
        assert self.changed(self.before) == 0

    def changed(self, users: Mapping[bytes, bytes]) -> int:
        """Run plmdb in this process; return its exit code."""
        text = self.folder / "text"
        text.write_bytes(lines_of(users))
        return plmdb.run([str(self.path), str(text)])

    def state(self) -> str:
        with self.lmdb.open(str(self.path), subdir=False, readonly=True, create=False) as environment:
            with environment.begin() as transaction:
                users = dict(transaction.cursor())
        return OLD if users == self.before else NEW if users == {**self.before, **USERS} else TORN

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = super().check(code, output, fault)
        seen.unless(code <= 0 or self.state() == OLD, CODE)
        seen.unless(self.changed(USERS) == 0 and self.state() == NEW, LOST)
        return seen


DATABASES = (ConstantDatabase, TextOfUsers, LmdbDatabase)
