"""Settings that every daemon has; each program combines them with its own rows (lean: no side effects)."""

from popular.config.kinds import Address, Bool, Choice, File, Id, Int, String, Time
from popular.config.mistakes import Mistake
from popular.config.setting import Setting, place
from popular.config.store import Config
from popular.daemon.logs import log_rows
from popular.log.limit import FROM_ONE
from popular.paths import RUNDIR
from popular.proc.pool import PoolLimits
from popular.version import VERSION

SESSIONLIMIT = 10_000    # slots of the state file
LEAST_MEMORY = 64        # MiB; an idle child uses less than half of it


def process_rows(program: str) -> tuple[Setting, ...]:
    """Return the rows for the process itself."""
    return (
        Setting("id", Id(), program, "The name of the program.", readonly=True),
        Setting("pid", Int(0), 0, "The process id of the master.", readonly=True),
        Setting("version", String(), VERSION, "The version of the program.", readonly=True),
        Setting("rundir", File(), RUNDIR,
                "The folder for pid file, state file and control socket; it is made if it is missing.",
                readonly=True, option=("-r", "--rundir")),
        *log_rows(program),
        Setting("user", Id(), "pop", "The user to become when started as root.", readonly=True,
                option=("-u", "--user")),
        Setting("group", Id(), None,
                "The group to become when started as root; the primary group of the user when not set.", readonly=True,
                option=("-g", "--group")),
        Setting("debug", Bool(), False, "Write messages for developers to the log.", option=("--debug",)),
    )


POOL_ROWS = (
    Setting("maxsession", Int(1, SESSIONLIMIT), 1000, "How many sessions there may be at once."),
    Setting("minspare", Int(1, 1000), 4, "How many idle children are kept ready at least."),
    Setting("maxspare", Int(1, 1000), 8, "How many idle children are kept at most."),
    Setting("maxuse", Int(1, 1_000_000), 1,
            "How many sessions a child serves, one after the other, before it leaves.  1: whatever a session breaks "
            "ends with it.  1000: a session costs a quarter of the CPU; take it above 200 sessions a second."),
    Setting("peerlines", Int(0, 100_000), FROM_ONE,
            "How many log lines of one kind an address may cause in a minute by broken TLS, NUL bytes and wrong first "
            "lines; all addresses together may cause 20 times as many; 0 is no limit. Lines about logins have none.",
            readonly=True, at_start=True),
    Setting("backlog", Int(5, 1024), 1024, "How many connections may wait to be accepted, as in listen(2)."),
    Setting("sessionlimit", Int(1, SESSIONLIMIT), SESSIONLIMIT, "The upper bound of maxsession.", readonly=True,
            at_start=True),
    Setting("maxmemory", Int(0, 1_048_576), 1024,
            "Memory that a child may have, in MiB (RLIMIT_DATA); one that asks for more gets an error and answers "
            "[SYS/TEMP].  Passwords stored as Argon2 need what their records say.  At least 64; 0 is no limit.",
            readonly=True, at_start=True),
    Setting("maxcpu", Time(0, 86400), 600.0,
            "Processor time that a child of one session (`maxuse` 1) may use before it is ended (RLIMIT_CPU); to relay "
            "or send a GB takes some seconds.  0 is no limit.",
            readonly=True, at_start=True),
    Setting("debugsession", Bool(), False, "Write messages for developers about sessions to the log."),
    Setting("immortal", Bool(), True,
            "Never free what the master has loaded at its start, so that children, which use it, copy less of its "
            "memory (immortal objects).  Has an effect with Python 3.12 and 3.13; a child of one session (`maxuse` 1) "
            "then has two fifths fewer page faults.  If a database module crashes, off tells whether that is why.",
            readonly=True, at_start=True),
    Setting("maxlocalload", Int(0, 10_000), 0,
            "The system load at which new connections are refused; 0 means never, unlike emptyload of pcheckd."),
)


CONFINEMENT_ROWS = (
    Setting("confinement", Choice("on", "light", "off"), "on",
            "Take from all processes what they never need, so that code that got into one harms little: children "
            "start no program, signal nobody, and write only where they must.  light: children of one session "
            "(`maxuse` 1) have no filter of system calls, half of the price of this; they could fork, and truncate the "
            "log.  `show confinement` tells what the kernel has of it.  A database module that starts programs or "
            "writes files must have `blocking = True`.",
            readonly=True, at_start=True),
)

METRICS_ROWS = (
    Setting("metrics", Address(), None,
            "Address on which metrics for Prometheus are served, by HTTP as /metrics; nowhere when not set.  Anybody "
            "who can reach it can read them; they name no user and no client."),
)


def pool_limits(config: Config) -> PoolLimits:
    """Return the values of POOL_ROWS."""
    values = config.variables
    return PoolLimits(values.integer("minspare"), values.integer("maxspare"),
                      min(values.integer("maxsession"), values.integer("sessionlimit")), values.integer("maxuse"))


def relay_limits(config: Config) -> tuple[int, int]:
    """Return how many sessions relay processes may have, and how many of these there are; 0, 0: there are none."""
    values = config.variables
    if "relay" not in values or values.text("relay") != "shared":
        return 0, 0
    return values.integer("maxrelayed"), values.integer("relays")


def load_limit(config: Config) -> int:
    """Return maxlocalload, 0 (no limit) for daemons that have no such variable."""
    return config.variables.integer("maxlocalload") if "maxlocalload" in config.variables else 0


def pool_mistakes(config: Config) -> list[Mistake]:
    """Return the contradictions between POOL_ROWS, for the `check` of a program."""
    minspare, maxspare = config.variables.integer("minspare"), config.variables.integer("maxspare")
    ident, memory = config.variables.text("id"), config.variables.integer("maxmemory")
    mistakes = []
    if maxspare < minspare:
        mistakes.append(Mistake(place(ident, "maxspare"),
                                f"maxspare = {maxspare} is less than minspare, which is {minspare}"))
    if 0 < memory < LEAST_MEMORY:
        mistakes.append(Mistake(place(ident, "maxmemory"),
                                f"maxmemory = {memory} is too little; write 0, or {LEAST_MEMORY} or more"))
    return mistakes
