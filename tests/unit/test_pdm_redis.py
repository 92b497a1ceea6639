"""The module redis: its arguments; the contract of all modules has the rest."""

import pytest

from popular.errors import PdmError
from tests.harness.pdm import make_module


@pytest.mark.parametrize("args, why", [
    (["servers=127.0.0.1"], "servers: '127.0.0.1' is not "),
    (["socket=redis.sock"], "socket: 'redis.sock' does not begin with /"),
    (["socket=/s", "servers=127.0.0.1:6379"], "servers and socket exclude each other"),
    (["socket=/s", "master=users"], "cluster, master and socket exclude each other"),
    (["cluster=on", "master=users"], "cluster, master and socket exclude each other"),
    (["cluster=on", "db=1"], "a cluster has no other db than 0"),
    (["key=users"], "key: it makes the same name for all users"),
    (["key=users:%n:%d"], "key: it makes the same name for all users"),
    (["key=%x"], "%x is unknown in %x"),
    (["tsl=on"], "unknown key 'tsl'; did you mean 'tls'?"),
])
def test_wrong_arguments(args, why):
    with pytest.raises(PdmError) as caught:
        make_module("redis", *args)
    assert why in str(caught.value)


@pytest.mark.parametrize("args", [
    [], ["key=%1h/%l"], ["cluster=on", "db=0"], ["master=users", "servers=s1:26379,s2:26379"]])
def test_right_arguments(args):
    assert make_module("redis", *args).blocking


def test_secrets_are_masked():
    made = make_module("redis", "user=pproxy", "password=geheim", "sentinelpassword=auch", "master=m")
    assert made.describe() == "user=pproxy 'password=***' 'sentinelpassword=***' master=m"
