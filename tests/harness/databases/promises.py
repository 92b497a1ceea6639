"""What of the contract of all database modules some kinds of databases cannot promise, and why."""

from collections.abc import Mapping
from enum import Enum, auto


class Promise(Enum):
    """A part of the contract that not every kind has."""

    UNKNOWN = auto()        # a user that the database does not have is UNKNOWN, not DENIED
    IDENTITY = auto()       # a refusal says where the user's mail is
    PLACES = auto()         # the database says where a user's mail is, and has a login for a POP3 server
    NAMESPACES = auto()     # the same name in two namespaces is two users
    PASSWORDS = auto()      # a user can have several passwords, with labels
    DISABLED = auto()       # a user can be disabled, with a reason
    SECRETS = auto()        # passwords in clear and secrets of SCRAM are stored
    FIND = auto()           # users are found without a password
    COLONS = auto()         # names can have colons
    QUOTES = auto()         # names can have quotes and backslashes
    BLANKS = auto()         # passwords for other servers, and reasons, can have blanks
    WAITING = auto()        # a database that does not answer in time is a failure
    DAMAGE = auto()         # a damaged database is a failure
    CONNECTIONS = auto()    # one connection is kept
    QUICK = auto()          # hundreds of questions take no time to speak of
    LEAN = auto()           # the constructor loads no driver
    DRIVER = auto()         # a missing driver is named


Lacks = Mapping[Promise, str]

_SERVER: Lacks = {Promise.DAMAGE: "its files are the server's own"}
_FILE: Lacks = {
    Promise.WAITING: "a local file is not waited for",
    Promise.CONNECTIONS: "there is no server",
}
_RECORD: Lacks = {
    **_FILE,
    Promise.NAMESPACES: "the key is the user's name; each namespace can have a file",
    Promise.PASSWORDS: "a record has one hash",
    Promise.DISABLED: "a record has no rules",
    Promise.COLONS: "a colon ends the name",
}
_PASSWD_FILE: Lacks = {
    Promise.PASSWORDS: "a line has one hash",
    Promise.COLONS: "a colon ends the name",
    Promise.BLANKS: "a blank ends a field",
    Promise.DRIVER: "it needs none",
}

# By the names of `kinds`.
LACKS: Mapping[str, Lacks] = {
    "pgsql": _SERVER,
    "mysql": _SERVER,
    "ldap": {
        **_SERVER,
        Promise.CONNECTIONS: "it has two: one to search, one to check passwords",
        Promise.SECRETS: "the directory checks passwords; tests/system/test_pdm_ldap.py has it compare them",
    },
    "redis": _SERVER,
    "redis_sentinel": {**_SERVER, Promise.CONNECTIONS: "Sentinel and server have some between them"},
    "redis_cluster": {**_SERVER, Promise.CONNECTIONS: "the nodes have some between them, and the module several"},
    "http": {
        **_SERVER,
        Promise.UNKNOWN: "the dialect has one refusal for unknown users and wrong passwords",
        Promise.FIND: "the dialect always needs a password",
        Promise.PASSWORDS: "the service checks passwords",
        Promise.DISABLED: "the service refuses whom it likes",
        Promise.SECRETS: "the service checks passwords",
    },
    "exec": {
        **_SERVER,
        Promise.SECRETS: "the program always gets the password",
        Promise.DRIVER: "it needs none",
    },
    "dovecot_socket": {
        **_SERVER, **_PASSWD_FILE,
        Promise.UNKNOWN: "Dovecot refuses unknown users as it refuses wrong passwords",
        Promise.IDENTITY: "a refusal has no fields of the user",
        Promise.NAMESPACES: "Dovecot is asked for the name only",
        Promise.QUOTES: "Dovecot 2.3 puts a backslash before them when it looks a name up",
        Promise.FIND: "Dovecot tells its clients nothing without a password",
        Promise.QUICK: "Dovecot holds back refusals for half a second",
        Promise.SECRETS: "Dovecot checks passwords",
    },
    "pam": {
        **_FILE,
        Promise.PLACES: "PAM knows no places: patterns make them",
        Promise.NAMESPACES: "PAM is asked for the name only",
        Promise.PASSWORDS: "PAM checks passwords",
        Promise.DISABLED: "PAM gives no reason of its own",
        Promise.SECRETS: "PAM checks passwords",
        Promise.FIND: "PAM tells nothing without a password",
        Promise.WAITING: "PAM cannot be interrupted; tests/system/test_pdm_pam.py ends its worker",
        Promise.DAMAGE: "what is behind PAM is not the module's",
        Promise.QUICK: "PAM starts a program for each password",
        Promise.DRIVER: "it needs none",
    },
    "dovecot_file": {
        **_FILE, **_PASSWD_FILE,
        Promise.DAMAGE: "any text is a passwd-file, with users or without",
        Promise.SECRETS: "a line may leave the password to another server",
    },
    "passwd": {**_RECORD, Promise.DRIVER: "it needs none"},
    "cdb": {**_RECORD, Promise.DRIVER: "it needs none"},
    "db": {**_RECORD, Promise.LEAN: "it is asked in the sessions, so the master loads the driver"},
    "lmdb": {**_RECORD, Promise.LEAN: "it is asked in the sessions, so the master loads the driver"},
    "sqlite": {**_FILE, Promise.DRIVER: "it is Python's own"},
}

# Modules that have no users of their own; their tests are in tests/unit.
WITHOUT_USERS: Mapping[str, str] = {
    "any": "accepts every user and leaves the password to the backend",
    "route": "finds a backend by rules and leaves the password to it",
    "master": "knows passwords of administrators only",
    "oauth": "knows tokens; other modules know the users",
    "poauth": "gives tokens for backends, to users of other modules",
    "template": "an example",
}
