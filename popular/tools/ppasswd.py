"""ppasswd: make password hashes, and set the passwords in the users file of the module passwd.

    ppasswd [--scheme SCHEME]                        print the hash of a password
    ppasswd [--scheme SCHEME] [--add PLACE] FILE USER    set the password of a user; with --add, of a new one
    ppasswd --verify FILE USER                       tell by the exit code whether a password is right
    ppasswd --delete FILE USER                       remove a user

The password is asked for on the terminal, without echo, or it is a line of standard input.  It is never a word of the
command line, and in no message.

FILE is replaced as a whole: the new one is written beside it, synced to disk and renamed.  It keeps owner and mode,
the order of the lines, and everything in them except the hash.  A second ppasswd waits for a lock on FILE.  If FILE is
sorted, a new user gets into their place, otherwise to the end.  Exit codes:

    0   done; with --verify: the password is right
    1   with --verify: the password is wrong
    64  wrong command line
    65  the password, the user's line or the order of FILE is wrong, or the user to add exists
    66  FILE or the password cannot be read
    67  there is no such user
    69  hashes of this scheme cannot be made here
    70  an unexpected error
    73  FILE cannot be written
"""

import argparse
import fcntl
import getpass
import os
import secrets
import sys
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from popular.config.parser import Parser
from popular.errors import PdmError
from popular.pdm import libcrypt, records
from popular.pdm.drivers import driver
from popular.pdm.proofs import ScramSecret
from popular.pdm.secrets import MAX_PASSWORD, verify
from popular.stderr import complain_as
from popular.tools.pmakecdb import fault_of_line, replace_file
from popular.tools.printing import main_of_secrets
from popular.version import VERSION

_WRONG = 1                # exit code
MAX_UNSORTED = 1 << 20    # octets of a file that need not be sorted, as in the module

# OWASP's least values, as each login of POP3 costs one verification.
_ARGON2_KIB, _ARGON2_PASSES, _ARGON2_LANES = 19 * 1024, 2, 1
_SHA_ROUNDS = 100_000
_YESCRYPT_COST = "j9T"    # the default of crypt(3): 16 MiB
_HASHES = ("argon2id", "yescrypt", "sha512")    # the best first
_SALT = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_complain = partial(complain_as, "ppasswd")


class NotDone(Exception):
    """What cannot be done, and the exit code for it."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def main() -> int:
    """Run `ppasswd`; returns its exit code."""
    return main_of_secrets(run, _complain)


def run(argv: Sequence[str]) -> int:
    """Do what `argv` wants; return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    has_deed = arguments.add is not None or arguments.delete or arguments.verify
    if arguments.user is None and (has_deed or arguments.file is not None):
        parser.error("give FILE and USER")
    try:
        return _do(arguments)
    except NotDone as why:
        _complain(str(why))
        return why.code
    except OSError as why:
        _complain(f"{arguments.file or 'standard output'}: {why.strerror}")
        return os.EX_CANTCREAT


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(prog="ppasswd", description="Make password hashes, and set passwords in a users file of the module "
                    "passwd.", allow_abbrev=False, add_help=False)
    parser.add_argument("-s", "--scheme", choices=SCHEMES, metavar="SCHEME",
                        help=f"of the hash: one of {', '.join(SCHEMES)} "
                             f"(default: the first of {', '.join(_HASHES)} that works here)")
    deeds = parser.add_mutually_exclusive_group()
    deeds.add_argument("-a", "--add", type=place_argument, metavar="PLACE",
                       help="add USER, whose mail is at PLACE, which is BACKEND:PROTOCOL:MAILBOX")
    deeds.add_argument("-d", "--delete", action="store_true", help="remove USER")
    deeds.add_argument("-v", "--verify", action="store_true",
                       help="change nothing; exit with 0 if the password is right, 1 if it is wrong")
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"ppasswd {VERSION}")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the users file; without it, a hash is printed")
    parser.add_argument("user", metavar="USER", nargs="?", type=user_key, help="the user in FILE")
    return parser


def place_argument(text: str) -> bytes:
    """Read BACKEND:PROTOCOL:MAILBOX; raises ArgumentTypeError."""
    octets = os.fsencode(text)
    if octets.count(b":") != 2:    # nor the password of a backend, which all could see
        raise argparse.ArgumentTypeError("must be BACKEND:PROTOCOL:MAILBOX")
    fault = fault_of_line(b"user", b"*:" + octets)
    if fault:
        raise argparse.ArgumentTypeError(fault)
    return octets


def user_key(text: str) -> bytes:
    """Read a user's name; raises ArgumentTypeError."""
    key = records.key_of(os.fsencode(text).decode("utf-8", "surrogateescape"))
    if key is None:
        raise argparse.ArgumentTypeError(f"must have 1 to {records.MAX_KEY} octets, no colon and no # at the start")
    return key


def _do(arguments: argparse.Namespace) -> int:
    """Do what the command line wants; raises NotDone and OSError."""
    if arguments.verify:
        return _verify(arguments.file, arguments.user)
    if arguments.delete:
        with locked(arguments.file) as text:
            _replace(arguments.file, without(text, arguments.user))
        return 0
    stored = stored_form(ask_password(is_new=True), arguments.scheme)
    if arguments.file is None:
        print(stored, flush=True)
        return 0
    with locked(arguments.file) as text:
        if arguments.add is None:
            changed = with_hash(text, arguments.user, stored.encode("ascii"))
        else:
            changed = with_user(text, arguments.user, stored.encode("ascii") + b":" + arguments.add)
        _replace(arguments.file, changed)
    return 0


def ask_password(*, is_new: bool) -> bytes:
    """Return a password from the terminal, where a new one is typed twice, or from standard input; raises NotDone."""
    if sys.stdin is not None and sys.stdin.isatty():
        password = _typed("Password: ")
        if is_new and _typed("Again: ") != password:
            raise NotDone(os.EX_DATAERR, "the two passwords differ")
    else:
        try:
            line = b"" if sys.stdin is None else sys.stdin.buffer.readline(MAX_PASSWORD + len(b"\r\n") + 1)
        except OSError as why:
            raise NotDone(os.EX_NOINPUT, f"standard input: {why.strerror}") from None
        password = line.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(password) <= MAX_PASSWORD or any(octet in password for octet in b"\0\r\n"):
        raise NotDone(os.EX_DATAERR, f"a password has 1 to {MAX_PASSWORD} octets, but no NUL or line end")
    return password


def _typed(prompt: str) -> bytes:
    """Return what is typed without echo; raises NotDone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)    # it would go on with echo
            return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except (getpass.GetPassWarning, EOFError, UnicodeError):
        raise NotDone(os.EX_DATAERR, "no password could be read from the terminal") from None


def stored_form(password: bytes, scheme: str | None = None) -> str:
    """Return the stored form of a password, by default in the first scheme that works here; raises NotDone."""
    why: Exception | None = None
    for name in _HASHES if scheme is None else [scheme]:
        try:
            return SCHEMES[name](password)
        except (PdmError, ValueError) as reason:
            why = reason
    raise NotDone(os.EX_UNAVAILABLE, f"{name}: {why}")


def _argon2id(password: bytes) -> str:
    """Raises PdmError without the package."""
    hasher = driver("argon2", "argon2-cffi").PasswordHasher(_ARGON2_PASSES, _ARGON2_KIB, _ARGON2_LANES)
    return f"{{ARGON2ID}}{hasher.hash(password)}"


def _crypt(method: str, octets: int, password: bytes) -> str:
    """Hash with `method` of crypt(3), which ends before the salt; raises ValueError."""
    salt = "".join(secrets.choice(_SALT) for _ in range(octets))
    return f"{{CRYPT}}{libcrypt.crypt(password, f'{method}{salt}$')}"


SCHEMES: Mapping[str, Callable[[bytes], str]] = {
    "argon2id": _argon2id,
    "yescrypt": partial(_crypt, f"$y${_YESCRYPT_COST}$", 24),
    "sha512": partial(_crypt, f"$6$rounds={_SHA_ROUNDS}$", 16),
    "scram-sha-256": lambda password: ScramSecret.made("SCRAM-SHA-256", password).stored,
    "scram-sha-1": lambda password: ScramSecret.made("SCRAM-SHA-1", password).stored,
}


def _verify(path: str, user: bytes) -> int:
    """Return the exit code that tells whether a password is right; raises NotDone."""
    password = ask_password(is_new=False)
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as why:
        raise NotDone(os.EX_NOINPUT, f"{path}: {why.strerror}") from None
    record = lines[_find(lines, user)].removesuffix(b"\r").partition(b":")[2]
    try:
        return 0 if verify(records.parse_record(record).stored, password) else _WRONG
    except ValueError as why:
        raise NotDone(os.EX_DATAERR, f"{_shown(user)}: {why}") from None


@contextmanager
def locked(path: str) -> Iterator[bytes]:
    """Lock a file against other ppasswds, and yield its content; raises NotDone if it cannot be opened."""
    while True:
        try:
            file = open(path, "r+b")    # NFS wants a lock's file to be writable
        except OSError as why:
            raise NotDone(os.EX_NOINPUT, f"{path}: {why.strerror}") from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                yield file.read()
                return
        # it was replaced while we waited


def with_hash(text: bytes, user: bytes, stored: bytes) -> bytes:
    """Return the file with another hash for a user; raises NotDone."""
    lines = text.split(b"\n")
    index = _find(lines, user)
    _, _, rest = lines[index].split(b":", 1)[1].partition(b":")
    lines[index] = _line(user, stored + b":" + rest)
    return _joined(lines)


def with_user(text: bytes, user: bytes, record: bytes) -> bytes:
    """Return the file with one user more: in their place if it is sorted, otherwise at the end; raises NotDone."""
    lines = text.split(b"\n")
    if lines[-1]:    # the last line has no end
        lines.append(b"")
    entries = [index for index, line in enumerate(lines) if _is_entry(line)]
    names = [_name(lines[index]) for index in entries]
    if user in names:
        raise NotDone(os.EX_DATAERR, f"{_shown(user)}: the user exists")
    number = bisect(names, user) if _is_sorted(names) else len(names)
    lines.insert(entries[number] if number < len(names) else len(lines) - 1, _line(user, record))
    return _joined(lines)


def without(text: bytes, user: bytes) -> bytes:
    """Return the file without a user, however many lines they have; raises NotDone."""
    lines = text.split(b"\n")
    _find(lines, user)
    return _joined([line for line in lines if not _is_entry(line) or _name(line) != user])


def _find(lines: Sequence[bytes], user: bytes) -> int:
    """Return the index of a user's first line, which is the one that counts; raises NotDone."""
    entry = user + b":"
    for index, line in enumerate(lines):
        if line.startswith(entry):
            return index
    raise NotDone(os.EX_NOUSER, f"{_shown(user)}: no such user")


def _line(user: bytes, record: bytes) -> bytes:
    """Return a user's line; raises NotDone if the module could not read it."""
    fault = fault_of_line(user, record.removesuffix(b"\r"))
    if fault:
        raise NotDone(os.EX_DATAERR, f"{_shown(user)}: {fault}")
    return user + b":" + record


def _joined(lines: Sequence[bytes]) -> bytes:
    """Return the text of lines; raises NotDone if the module could not find users in it."""
    text = b"\n".join(lines)
    if len(text) > MAX_UNSORTED and not _is_sorted([_name(line) for line in lines if _is_entry(line)]):
        raise NotDone(os.EX_DATAERR, f"a file of more than {MAX_UNSORTED} octets must be sorted: "
                                     "LC_ALL=C sort -t: -k1,1 -o FILE FILE")
    return text


def _is_entry(line: bytes) -> bool:
    return b":" in line and not line.startswith(b"#")


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _is_sorted(names: Sequence[bytes]) -> bool:
    return all(before <= name for before, name in zip(names, names[1:]))


def _shown(user: bytes) -> str:
    return user.decode("utf-8", "surrogateescape")


def _replace(path: str, text: bytes) -> None:
    """Replace a file; raises OSError."""
    replace_file(path, lambda output: output.write(text))
