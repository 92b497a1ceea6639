"""The places in the state file, and the room that they have."""

import pytest

from popular.statefile import layout as layout
from popular.statefile.counters import CUT_OFF, DeliveryOutcome, ProxyOutcome, ServerOutcome, counters_of

COMMON = ("sessions", "load_refused", "bytes_in", "bytes_out", "forks", "forks_failed", "throttles", "children_died")
OWN = {
    "pproxy": (
        "relayed", "empty", "overloaded", "vserv_disabled", "backend_disabled", "soft_failure", "refused", "quit",
        "no_login", "logins", "logins_refused", "logins_failed", "backend_refused", "checks_empty", "checks_old_mail",
        "checks_new_mail", "checks_overloaded", "checks_failed", "check_microseconds", "cut_off", "checks_missing",
        "workers_died", "cache_hits", "cache_misses", "cache_stale", "client_denied", "client_failed_logins",
        "client_address_rate", "client_network_rate", "client_address", "client_network", "logins_unchecked",
        "control_refused", "made_way", "screen_passed", "screen_closed", "to_replica", "checks_skipped",
        "policy_refused", "policy_failed", "proxies_refused", "health_checks"),
    "pserv": (
        "quit", "broken_off", "refused", "no_preamble", "retrieved", "octets", "deleted", "not_deleted", "cut_off",
        "control_refused"),
    "plmtpd": (
        "quit", "broken_off", "cut_off", "accepted", "accepted_octets", "delivered", "unknown", "over_quota",
        "deferred", "control_refused"),
}


@pytest.mark.parametrize("form, size", [
    pytest.param(layout.FIXED, 192, id="header"),
    pytest.param(layout.NAME, 72, id="name"),
    pytest.param(layout.SLOT, 376, id="slot"),
    pytest.param(layout.MOVING, 36, id="moving part"),
])
def test_records_have_the_documented_sizes(form, size):
    assert form.size == size


def test_the_second_sequence_number_ends_the_record():
    assert layout.SEQUENCE_SIZE + layout.SLOT.size <= layout.SLOT_SIZE - layout.SEQUENCE_SIZE
    assert 2 * layout.SEQUENCE_SIZE + layout.CHANGING.size <= layout.CHANGING_SIZE
    assert layout.CHANGING_AT + layout.CHANGING_SIZE <= layout.HEADER_SIZE


@pytest.mark.parametrize("kind", layout.KINDS.values(), ids=["proxy", "server", "delivery"])
def test_kinds_have_room_for_their_counters(kind):
    assert len(set(kind.counters)) == len(kind.counters) <= layout.COLUMNS
    assert set(kind.outcomes) <= set(kind.counters)
    assert kind.counters[:len(COMMON)] == COMMON


@pytest.mark.parametrize("kind", layout.KINDS.values(), ids=["proxy", "server", "delivery"])
def test_columns_are_those_of_version_5(kind):
    assert layout.LAYOUT_VERSION == 5
    assert kind.counters == COMMON + OWN[kind.program], "a new counter stands behind all others"
    assert [row.column for row in counters_of(kind.program)] == list(range(len(kind.counters)))


@pytest.mark.parametrize("kind, outcomes", [
    (layout.PROXY, ProxyOutcome), (layout.SERVER, ServerOutcome), (layout.DELIVERY, DeliveryOutcome)])
def test_every_outcome_has_its_counter(kind, outcomes):
    assert [outcome.counter for outcome in outcomes] == [*kind.outcomes]
    assert [outcome.text.replace(" ", "_") for outcome in outcomes] == [*kind.outcomes]
    assert CUT_OFF in kind.outcomes


def test_the_table_of_failures_has_its_place():
    assert layout.NAMES_AT + layout.NAMES * layout.NAME.size <= layout.FAILURES_AT == 6 * 4096
    assert len(layout.FAILURES) <= layout.FAILURE_COLUMNS


def test_the_table_of_health_has_its_place():
    assert layout.HEALTH_AT == layout.FAILURES_AT + layout.NAMES * layout.FAILURE_SIZE == 14 * 4096
    assert layout.OF_LOGINS + layout.STATE < layout.OF_CHECKS
    assert layout.OF_CHECKS + layout.STATE < layout.LOGIN_ROOM < layout.SESSION_ROOM < layout.SWITCH
    assert layout.SWITCH < layout.HEALTH_NUMBERS == layout.HEALTH_SIZE // 8
    assert layout.Layout(1).slots_at == layout.HEALTH_AT + layout.NAMES * layout.HEALTH_SIZE
