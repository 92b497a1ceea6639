"""The state file PROGRAM.state to the octet (spec 6): where everything is, and what it is called.

Read by the master and its children, which write the file, and by pstatus.  Data and pure functions,
nothing is raised.  Numbers are in the host's byte order and without alignment gaps other than those
named here; texts are UTF-8, padded with NULs, cut where they do not fit.

    header         4096 octets at 0
        0   8s  POPULAR\\0
        8   8s  PROXY\\0\\0\\0, SERVER\\0\\0 or LMTP\\0\\0\\0\\0
       16   I   version: 5
       20   I   octets of the header: 4096
       24   I   slots of children
       28   I   octets of a slot record: 384
       32   Q   offset of the slot records
       40   I   columns for counters in a row: 64, of which the first ones are used
       44   I   octets of a row: (64 + 256) * 8
       48   Q   offset of the rows
       56   I   name records: 256
       60   I   octets of a name record: 72
       64   Q   offset of the name records: 4096
       72   QQ  device and inode of the file, by which a copy is known as one
       88   32s version of the program
      120   64s host
      184   I   slots of relayed sessions, after those of children
      188   I   relay processes, each of which has its share of these slots
      192   the part that changes:
      192   I   sequence number
      196   i   process id of the master
      200   d   start of the master, seconds since 1970
      208   I   generation of the configuration, from 0
      212   I   slots used so far: the highest and one
      216   I   names used so far
      220   I   maxsession
      224   d   maxlocalload; 0: no limit
      232   d   system load when it was last read
      240   B   session state: 0 OK, 1 WARN, 2 MAX (spec 5.3)
      241   B   load state
      242   B   PDM workers
      243   B   PDM workers that have a question
      244   B   1: clients are screened, because the pool was full
      248   I   the sequence number again
      256   I   whether counts of clients are shared with other proxies: the numbers of SharingState
      260   I   with how many other proxies
      264   16I for each relay process: how many of its slots are in use, 2**32 - 1 if it takes no session; and how many
                of all slots of relayed sessions precede the end of the last one that it has ever used
    name records   72 octets each; slots and rows refer to them by number; never changed, only added to
        0   8s  class of the object: vserv, backend or server; or pdm, pdmfail or pdmtime, for what is counted of a
                database module: questions, failures, microseconds
        8   64s its id
        number 0 has no name; it counts what found no room
    failures       128 octets for each name, at 24576; used are those of backends, and number 0
        0   16Q failures of each kind, in the order of FAILURES
    health         128 octets for each name, at 57344; used are those of backends.  Doubles, which all children write
                   without a lock: each is whole.  Times are those of CLOCK_MONOTONIC, 0: none
        0   5d  of logins: when the first was begun after the last answer; when one was answered; failures in a row;
                until when none is sent there; BackendState: up, slow or down
       40   5d  of mail checks: the same
       80   2d  how many more logins, and sessions, may begin before those that there are must be counted
       96   d   BackendState that the master has set: up, drained, disabled or removed
    slot records   384 octets each
        0   I   sequence number
        4   i   process id of the child, or of the relay process; 0 when the slot is free
        8   I   sessions of this child, with the one that runs
       12   H   name of its vserv or server
       14   H   name of its backend
       16   H   port of the client
       18   B   1: the line that sums the session up has been logged
       20   B   state: the numbers of SessionState
       24   Q   octets that came from the client
       32   Q   octets that went to it
       40   d   when octets were last seen to move, seconds since 1970
       48   d   when the state was entered
       56   d   when the session began
       64   64s session id
      128   48s client's address
      176   200s user; in pserv and plmtpd the mailbox
      380   I   the sequence number again
    rows           one of the master's own, then one for each child, then one for each relay process: counters that only
                   grow
        0   64Q the counters of the program by their columns (counters.py)
      512   256Q sessions of each name, or what else its class counts
    keys           three arrays with a number for each slot, at the next page: by what open sessions are counted, in the
                   order of CountedBy; the numbers mean something only to the children of one master, 0 is none
        0   Q   of slot 0, and so on

A writer first makes the second sequence number the coming even one, then the first one odd; writes each octet
once; and makes the first one even.  So a reader that finds the first number even and unchanged after
reading has a whole record.  In a copy of the file that was made front to back, a record is whole if both
numbers are equal and even.  Each record has one writer at a time: a child writes its slot and row, a relay process the
slots of its sessions and its row, the master all others and the slots of the dead; all children write health, and the
process that shares counts writes whether it does.  Rows, failures, health, this and what is said of relay processes are
read without a sequence: each number is whole.  A row survives its child: the next one in the slot goes on counting.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from mmap import mmap

from popular.statefile.counters import ENDED, counters_of

MAGIC = b"POPULAR\0"
LAYOUT_VERSION = 5

HEADER_SIZE = 4096
FIXED = struct.Struct("=8s8sIIIIQIIQIIQQQ32s64sII")
CHANGING = struct.Struct("=idIIIIddBBBBB3x")    # after the sequence number
CHANGING_AT = 192
CHANGING_SIZE = 60                         # with both sequence numbers
SLOTS_USED_AT = 212
SHARING_FIELDS = struct.Struct("=II")
SHARING_AT = 256
MAX_RELAYS = 8
RELAYS = struct.Struct(f"={2 * MAX_RELAYS}I")
RELAY = struct.Struct("=II")
RELAYS_AT = 264
TAKES_NONE = 0xffff_ffff
SESSION_STATE_AT, LOAD_STATE_AT, IS_SCREENING_AT = 240, 241, 244

NAME = struct.Struct("=8s64s")
NAMES = 256
NAMES_AT = HEADER_SIZE

SLOT_SIZE = 384
SLOT = struct.Struct("=iIHHH2xB3xQQddd64s48s200s4x")   # after the sequence number
MOVING = struct.Struct("=B3xQQdd")                    # the part of it that every change of state writes
MOVING_AT = 20
NAMED = struct.Struct("=HH")
NAMED_AT = 12
BACKEND_AT = 14
ENDED_AT = 18
SID = struct.Struct("=64s")
SID_AT = 64
CLIENT_PORT = struct.Struct("=H")
CLIENT_PORT_AT = 16
CLIENT_HOST = struct.Struct("=48s")
CLIENT_HOST_AT = 128
USER = struct.Struct("=200s")
USER_AT = 176
KEY = struct.Struct("=Q")

# Why a login at a backend failed, with the texts of pstatus(1).  They are few, so children report them to the
# master, which counts them: columns for each backend in each slot's row would make a row seven times as long.
FAILURES = {
    "refused": "The connection was refused, or the backend was unreachable.",
    "timeout": "The backend did not accept the connection, or did not answer before the login, in time.",
    "closed": "The backend closed the connection before it answered the login.",
    "tls": "The backend's TLS is broken, or not what was agreed on.",
    "protocol": "The backend gave an invalid answer, or its greeting was a refusal.",
    "silence": "The backend received the login and did not answer in time.",
    "local": "This host could not open a connection.",
    "drained": "The backend was not asked, because it is drained.",
    "down": "The backend was not asked, because it is slow or down.",
    "busy": "The backend was not asked, because it had as many logins or sessions as it may have.",
}
FAILURE_COLUMNS = 16
FAILURE_SIZE = FAILURE_COLUMNS * 8         # octets of the counters of one name
FAILURES_AT = 24_576                       # a whole page after the names

HEALTH_SIZE = 128
HEALTH_AT = FAILURES_AT + NAMES * FAILURE_SIZE
HEALTH_NUMBERS = HEALTH_SIZE // 8
ASKED, ANSWERED, IN_A_ROW, UNTIL, STATE = range(5)    # numbers of one service of a backend
OF_LOGINS, OF_CHECKS = 0, 5                         # where in a record of health they are
LOGIN_ROOM, SESSION_ROOM = 10, 11
SWITCH = 12

SEQUENCE = struct.Struct("=I")
SEQUENCE_SIZE = SEQUENCE.size
NUMBER = 8    # octets of a counter
COLUMNS = 64
ROW_SIZE = (COLUMNS + NAMES) * NUMBER

_PAGE = 4096


class SessionState(IntEnum):
    """What a slot is doing; a number in the file, with its text for pstatus(1) and its style for pstatus --top."""

    help: str
    style: str                     # how --top shows it
    programs: tuple[str, ...]      # those that have it, for a state of sessions

    def __new__(cls, number: int, style: str = "", help: str = "", *programs: str) -> "SessionState":
        state = int.__new__(cls, number)
        state._value_ = number
        state.style, state.help, state.programs = style, help, programs
        return state

    FREE = 0, "faint", "There is no child in the slot."
    IDLE = 1, "faint", "A child waits for a connection."
    GREETING = 2, "new", "The client was greeted and has said nothing.", "pproxy", "plmtpd"
    AUTH = 3, "new", "The client gives user and password, and the database modules are asked.", "pproxy"
    MAILCHECK = 4, "waiting", "pcheckd is asked whether there is mail.", "pproxy"
    EMPTY = 5, "calm", "pproxy plays an empty mailbox.", "pproxy"
    CONNECTING = 6, "waiting", "pproxy connects to the backend and logs in there.", "pproxy"
    RELAY = 7, "busy", "Octets go between client and backend.", "pproxy"
    PREAMBLE = 8, "new", "pserv waits for the proxy to name the mailbox.", "pserv"
    OPENING = 9, "waiting", "pserv lists the mailbox.", "pserv"
    TRANSACTION = 10, "busy", "pserv serves the mailbox.", "pserv"
    UPDATE = 11, "waiting", "pserv removes messages at QUIT.", "pserv"
    READY = 13, "calm", "plmtpd waits for the next message.", "plmtpd"
    ENVELOPE = 14, "new", "plmtpd takes the recipients of a message, and looks them up.", "plmtpd"
    DATA = 15, "busy", "plmtpd takes the text of a message.", "plmtpd"
    DELIVERING = 16, "waiting", "plmtpd writes a message to the mailboxes.", "plmtpd"
    CLOSING = 12, "calm", "The session is over and the connection is being closed.", "pproxy", "pserv", "plmtpd"

    @property
    def has_session(self) -> bool:
        """Tell whether a slot in this state serves a client."""
        return self > SessionState.IDLE


STATES = {state.name.lower(): state for state in SessionState}


class CountedBy(IntEnum):
    """What open sessions are counted by: each slot has a key of each."""

    ADDRESS = 0    # of the client
    NETWORK = 1    # of the client
    MAILBOX = 2    # to which the session has logged in


class BackendState(IntEnum):
    """Whether a backend, or its pcheckd, is used; a number in the file, with its text for pstatus(1)."""

    help: str

    def __new__(cls, number: int, help: str) -> "BackendState":
        state = int.__new__(cls, number)
        state._value_ = number
        state.help = help
        return state

    UP = 0, "It answers, as far as is known."
    SLOW = 1, "It has not answered for slowtime, though asked; now only a probe asks it from time to time."
    DOWN = 2, "It has failed downtries times in a row; now only a probe asks it from time to time."
    DRAINED = 3, "It gets no new sessions, because drain is on."
    DISABLED = 4, "It is not used, because enabled is off."
    REMOVED = 5, "It is not configured any more."


BACKEND_STATES = {state.name.lower(): state for state in BackendState if state is not BackendState.REMOVED}


class LimitState(IntEnum):
    """How close sessions or load are to their limit (spec 5.3)."""

    OK = 0
    WARN = 1
    MAX = 2


class SharingState(IntEnum):
    """Whether counts of clients are shared with other proxies."""

    OFF = 0         # not configured
    TOGETHER = 1
    ALONE = 2       # the server does not answer
    STARTING = 3    # it has not been asked yet


SHARING_STATES = {int(state): state.name.lower() for state in SharingState}


@dataclass(frozen=True, slots=True)
class StateFileKind:
    """What the state file of one program holds."""

    program: str
    magic: bytes
    owner: str                # class of the objects that own listeners
    others: tuple[str, ...]   # classes of other objects whose sessions are counted
    failing: str = ""         # class of the objects whose failures are counted
    measures: tuple[str, ...] = ()    # for the questions to database modules: their number, failures, microseconds

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes whose sessions are counted."""
        return (self.owner, *self.others)

    @property
    def counters(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(counter.name for counter in counters_of(self.program))

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Those that count how sessions ended: one for each way."""
        return tuple(counter.name for counter in ENDED.counters if self.program in counter.programs)


QUESTIONS, FAILED_QUESTIONS, QUESTION_TIME = "pdm", "pdmfail", "pdmtime"
PROXY = StateFileKind("pproxy", b"PROXY\0\0\0", "vserv", ("backend",), "backend",
                      (QUESTIONS, FAILED_QUESTIONS, QUESTION_TIME))
SERVER = StateFileKind("pserv", b"SERVER\0\0", "server", ())
DELIVERY = StateFileKind("plmtpd", b"LMTP\0\0\0\0", "server", (),
                         measures=(QUESTIONS, FAILED_QUESTIONS, QUESTION_TIME))
KINDS = {kind.magic: kind for kind in (PROXY, SERVER, DELIVERY)}


class Layout:
    """Where the records are of a file with so many slots."""

    def __init__(self, slots: int, relayed: int = 0, relays: int = 0) -> None:
        """Compute it once, because every child needs it; `relays` are the processes for `relayed` sessions."""
        self.slots = slots        # of children
        self.relayed = relayed    # slots after these
        self.relays = relays
        self.every = slots + relayed
        self.slots_at = _whole_pages(HEALTH_AT + NAMES * HEALTH_SIZE)          # offset of the slot records
        self.rows_at = _whole_pages(self.slots_at + self.every * SLOT_SIZE)    # offset of the rows
        self.keys_at = _whole_pages(self.rows_at + (slots + 1 + relays) * ROW_SIZE)    # offset of the keys
        self.size = self.keys_at + len(CountedBy) * self.every * KEY.size              # octets of the file

    def slot_at(self, slot: int) -> int:
        """Return the offset of a slot's record."""
        return self.slots_at + slot * SLOT_SIZE

    def row_at(self, slot: int) -> int:
        """Return the offset of the row of a child's slot; slot -1 is the master."""
        return self.rows_at + (slot + 1) * ROW_SIZE

    def relay_row_at(self, relay: int) -> int:
        """Return the offset of the row of a relay process."""
        return self.row_at(self.slots + relay)

    def relay_at(self, relay: int) -> int:
        """Return the offset of what the header says of a relay process."""
        return RELAYS_AT + relay * RELAY.size

    def key_at(self, by: "CountedBy", slot: int) -> int:
        """Return the offset of the key of a slot's session."""
        return self.keys_at + (by * self.every + slot) * KEY.size

    def used(self, children: int, relays: bytes) -> tuple[range, ...]:
        """Return the slots that were ever used, from what the header says of children and of relay processes."""
        found = range(min(children, self.slots))
        if not self.relayed:
            return (found,)
        most = max(RELAYS.unpack(relays)[1::2])
        return (found, range(self.slots, self.slots + min(most, self.relayed)))

    def places(self) -> tuple[int, ...]:
        """Return the numbers of the header that describe the layout, in its order from octet 16."""
        return (LAYOUT_VERSION, HEADER_SIZE, self.slots, SLOT_SIZE, self.slots_at, COLUMNS, ROW_SIZE, self.rows_at,
                NAMES, NAME.size, NAMES_AT)


def used_slots(memory: mmap, layout: Layout) -> tuple[range, ...]:
    """Return the slots that were ever used."""
    [children] = SEQUENCE.unpack_from(memory, SLOTS_USED_AT)
    return layout.used(children, memory[RELAYS_AT:RELAYS_AT + RELAYS.size] if layout.relayed else b"")


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
