"""The accounts of the demo, and the forms in which their passwords are stored."""

import base64
import hashlib
import os
from dataclasses import dataclass

from popular.pdm.libcrypt import crypt

ORG = "example.org"
NET = "example.net"
MASTER_PASSWORD = "let-me-help"


@dataclass(frozen=True, slots=True)
class Account:
    """One row of the user database."""

    namespace: str
    name: str
    password: str
    backend: str = "store"
    mailbox: str = ""            # below the spool
    buser: str = ""              # for a POP3 backend
    bpass: str = ""


ANNA = Account(ORG, "anna", "tulip", mailbox=f"{ORG}/anna")
BEN = Account(ORG, "ben", "rose", mailbox=f"{ORG}/ben")
CARLA = Account(ORG, "carla", "daisy", "elsewhere", buser="carla", bpass="inner-secret")
OTHER_ANNA = Account(NET, "anna", "cactus", mailbox=f"{NET}/anna")
ACCOUNTS = (ANNA, BEN, CARLA, OTHER_ANNA)

# The table and columns of the default query of the module `sqlite`.
TABLE = ("CREATE TABLE users (user TEXT, namespace TEXT, password TEXT, backend TEXT, protocol TEXT, mailbox TEXT, "
         "buser TEXT, bpass TEXT, PRIMARY KEY (user, namespace)) WITHOUT ROWID")


def crypted(password: str) -> str:
    """Return a password as the master module compares it: by crypt(3), SHA-512 (spec 7.3)."""
    return crypt(password.encode(), f"$6${os.urandom(8).hex()}")


def salted(password: str) -> str:
    """Return a password as databases store it, in a form that is quickly checked: salted SHA-256."""
    salt = os.urandom(8)
    return "{SSHA256}" + base64.b64encode(hashlib.sha256(password.encode() + salt).digest() + salt).decode()
