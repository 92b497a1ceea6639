"""The table from counters to metrics, and the text that Prometheus reads."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest

from popular.addresses import Endpoint
from popular.statefile.layout import KINDS, PROXY, SERVER, SessionState, SharingState, StateFileKind
from popular.statefile.prometheus import FAMILIES, StateSnapshot, exposition
from popular.statefile.reader import Head
from popular.statefile.writer import StateFile
from popular.version import VERSION
from tests.harness.metrics import Metrics, promtool

# What a header holds and no metric tells, and why.
LEFT_OUT = {
    "kind": "told by the label program", "slots": "how the file is laid out", "slots_used": "how the file is laid out",
    "relays": "how the file is laid out", "relayed": "",
    "device": "how a copy is known", "inode": "how a copy is known", "host": "Prometheus knows whom it asks",
    "pid": "changes, and says nothing", "names": "told by the sessions of each", "started": "", "generation": "",
    "version": "", "maxsession": "", "maxlocalload": "", "load": "", "session_state": "", "load_state": "",
    "workers": "", "workers_busy": "", "is_screening": "",
    "sharing": "", "proxies": "",
}

MakeStateFile = Callable[[StateFileKind], StateFile]


@pytest.fixture
def make_statefile() -> Iterator[MakeStateFile]:
    """A function (kind) that makes a state file in memory with five slots used."""
    statefiles = []

    def make(kind: StateFileKind) -> StateFile:
        statefiles.append(StateFile(kind, 20))
        statefiles[-1].use(4)
        return statefiles[-1]

    yield make
    for statefile in statefiles:
        statefile.close()


def look(statefile: StateFile) -> StateSnapshot:
    return StateSnapshot.at(statefile.read, 0.1)


def read(*statefiles: StateFile) -> Metrics:
    return Metrics.read(exposition([look(statefile) for statefile in statefiles]))


# The table

def test_every_counter_is_a_metric_and_nothing_else_is() -> None:
    assert {counter.name for family in FAMILIES for counter in family.counters} == {
        counter for kind in KINDS.values() for counter in kind.counters}


def test_every_part_of_the_header_is_told_or_left_out_for_a_reason(make_statefile: MakeStateFile) -> None:
    assert set(LEFT_OUT) == {field.name for field in fields(Head)}
    statefile = make_statefile(PROXY)
    statefile.tell(maxlocalload=9.0)
    statefile.tell_sharing(SharingState.TOGETHER, 1)
    before = look(statefile)
    changes = {"version": "99", "started": 1.0, "generation": 99, "maxsession": 99, "maxlocalload": 99.0, "load": 99.0,
               "session_state": 2, "load_state": 2, "workers": 9, "workers_busy": 2, "is_screening": True,
               "sharing": "alone", "proxies": 9, "relayed": 9}
    assert set(changes) == {name for name, why in LEFT_OUT.items() if not why}
    for name, value in changes.items():
        after = replace(before, head=replace(before.head, **{name: value}))    # type: ignore[arg-type]
        assert exposition([after]) != exposition([before]), name


def test_every_state_of_a_session_is_known() -> None:
    assert {state for state in SessionState if state.programs} == {
        state for state in SessionState if state.has_session}
    assert {program for state in SessionState for program in state.programs} == {
        kind.program for kind in KINDS.values()}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_names_follow_the_conventions(family: object) -> None:
    name, kind = getattr(family, "name"), getattr(family, "kind")
    assert re.fullmatch(r"popular_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") is (kind == "counter")
    base = name.removesuffix("_total")
    assert [other.name for other in FAMILIES if other.name.removesuffix("_total") == base] == [name], \
        "OpenMetrics knows a counter without its _total"
    assert not re.search("micro|milli|octets|minutes", name), "units are seconds and bytes"
    assert re.fullmatch(r"[A-Z][ -~]+\.", getattr(family, "help"))
    assert not {"user", "client", "address", "mailbox", "sid", "pid"} & {*getattr(family, "labels")}


# What is told

def test_pproxy(make_statefile: MakeStateFile) -> None:
    statefile = make_statefile(PROXY)
    statefile.learn([("vserv", "main"), ("vserv", "other"), ("backend", "store1")])
    statefile.tell(maxsession=50, maxlocalload=20.0, load=18.5, load_state=1, session_state=2, generation=3,
                   started=1e9)
    busy, idle = statefile.slot(1), statefile.slot(3)
    busy.begin(Endpoint("192.0.2.7", 50123), "main", "px-1")
    busy.call_user("joe")
    busy.call_backend("store1")
    busy.enter(SessionState.RELAY, 1234, 5_600_000)
    number = {counter: 1000 + place for place, counter in enumerate(PROXY.counters)}
    for counter, amount in number.items():
        if counter not in ("sessions", "bytes_in", "bytes_out"):
            busy.count(counter, amount)
    idle.idle()
    statefile.count("forks")
    for _ in range(2):
        statefile.count_failure(busy.failure("store1", "tls"))
    busy.release()
    idle.release()
    found = read(statefile)
    who = {"program": "pproxy"}
    assert found.get("sessions_total", **who) == 1
    assert found.get("received_bytes_total", **who) == 1234 and found.get("sent_bytes_total", **who) == 5_600_000
    assert found.by("sessions_ended_total", "outcome") == {name: number[name] for name in PROXY.outcomes}
    assert found.by("logins_total", "result") == {
        "granted": number["logins"], "refused": number["logins_refused"], "failed": number["logins_failed"]}
    assert found.get("backend_refusals_total", **who) == number["backend_refused"]
    assert found.values["popular_backend_failures_total", frozenset(
        {"program": "pproxy", "backend": "store1", "kind": "tls"}.items())] == 2
    assert sum(found.by("backend_failures_total", "kind").values()) == 2
    assert found.get("replica_logins_total", **who) == number["to_replica"]
    assert found.by("backend_state", "state") == {"up": 1, "slow": 0, "down": 0, "drained": 0, "disabled": 0}
    assert found.by("mail_checks_total", "result") == {
        name: number[f"checks_{name}"] for name in (
            "empty", "old_mail", "new_mail", "overloaded", "missing", "failed", "skipped")}
    assert found.get("mail_check_seconds_total", **who) == pytest.approx(number["check_microseconds"] / 1e6)
    assert found.get("forks_total", **who) == number["forks"] + 1
    assert found.get("fork_failures_total", **who) == number["forks_failed"]
    assert found.get("throttles_total", **who) == number["throttles"]
    assert found.get("child_deaths_total", **who) == number["children_died"]
    assert found.get("connections_refused_total", **who) == number["load_refused"]
    assert found.by("vserv_sessions_total", "vserv") == {"main": 1, "other": 0}
    assert found.by("backend_sessions_total", "backend") == {"store1": 1}
    assert found.get("unnamed_sessions_total", **who) == 0
    active = found.by("sessions_active", "state")
    assert (active["relay"], sum(active.values()), found.get("children_idle", **who)) == (1, 1, 1)
    assert "preamble" not in active
    for name, value in (("up", 1), ("start_time_seconds", 1e9), ("config_generation", 3), ("sessions_limit", 50),
                        ("sessions_limit_state", 2), ("system_load", 18.5), ("system_load_limit", 20),
                        ("system_load_state", 1)):
        assert found.get(name, **who) == value
    assert found.by("build_info", "version") == {VERSION: 1}
    assert not re.search("joe|192|px-1|server|retrieved", found.text.replace("virtual server", ""))


def test_pserv(make_statefile: MakeStateFile) -> None:
    statefile = make_statefile(SERVER)
    statefile.learn([("server", "main")])
    slot = statefile.slot(0)
    slot.begin(Endpoint("192.0.2.7", 1), "main")
    slot.begin(Endpoint("192.0.2.7", 1), "without a name")
    slot.enter(SessionState.UPDATE, 0, 0)
    for counter, amount in (("retrieved", 3), ("octets", 400), ("deleted", 2), ("not_deleted", 1)):
        slot.count(counter, amount)
    slot.release()
    found = read(statefile)
    who = {"program": "pserv"}
    assert found.by("server_sessions_total", "server") == {"main": 1}
    assert found.get("unnamed_sessions_total", **who) == 1
    assert (found.get("messages_retrieved_total", **who), found.get("retrieved_bytes_total", **who)) == (3, 400)
    assert (found.get("messages_deleted_total", **who), found.get("messages_not_deleted_total", **who)) == (2, 1)
    assert found.by("sessions_active", "state") == {
        "preamble": 0, "opening": 0, "transaction": 0, "update": 1, "closing": 0, "unknown": 0}
    assert "popular_system_load" not in found.kinds, "nobody looks at it without a limit"


def test_all_programs_in_one_text(make_statefile: MakeStateFile) -> None:
    statefiles = [make_statefile(kind) for kind in KINDS.values()]
    statefiles[0].tell_sharing(SharingState.TOGETHER, 1)
    for statefile in statefiles:
        statefile.learn((cls, "main") for cls in (*statefile.kind.classes, *statefile.kind.measures))
    found = read(*statefiles)
    assert found.by("sessions_total", "program") == {"pproxy": 0, "pserv": 0, "plmtpd": 0}
    assert found.by("pdm_workers", "program") == {"pproxy": 0}
    assert found.text.count("# TYPE popular_sessions_total counter\n") == 1
    assert (found.by("sharing", "program"), found.by("sharing_proxies", "program")) == ({"pproxy": 1}, {"pproxy": 1})
    assert found.kinds == {family.name: family.kind for family in FAMILIES if "system_load" not in family.name}


def test_a_daemon_that_was_killed_tells_only_that(make_statefile: MakeStateFile) -> None:
    text = exposition([replace(look(make_statefile(PROXY)), is_running=False)])
    assert [line for line in text.splitlines() if line[0] != "#"] == ['popular_up{program="pproxy"} 0']


def test_slots_that_are_being_written_are_sessions(make_statefile: MakeStateFile) -> None:
    whole = look(make_statefile(PROXY))
    found = Metrics.read(exposition([replace(whole, rows=[*whole.rows, None])]))
    assert found.by("sessions_active", "state")["unknown"] == 1


@pytest.mark.parametrize("name", ['a"b', "a\\", "a\nb", 'a"} 7\n# TYPE x counter\nx{y="', "ä", "a\\nb"])
def test_labels_are_escaped(make_statefile: MakeStateFile, name: str) -> None:
    statefile = make_statefile(PROXY)
    statefile.learn([("vserv", name)])
    assert read(statefile).by("vserv_sessions_total", "vserv") == {name: 0}


def test_promtool_finds_nothing_to_say(make_statefile: MakeStateFile) -> None:
    proxy, server = make_statefile(PROXY), make_statefile(SERVER)
    proxy.learn([("vserv", "main"), ("backend", "store1")])
    server.learn([("server", "main")])
    proxy.tell(maxlocalload=5.0)
    done = promtool("check", "metrics", text=exposition([look(proxy), look(server)]))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    done = promtool("check", "metrics", text=exposition([look(proxy)]).replace("logins_total", "logins"))
    assert "should have" in done.stderr + done.stdout and done.returncode != 0


def test_names_of_programs() -> None:
    assert [kind.program for kind in KINDS.values()] == ["pproxy", "pserv", "plmtpd"]
