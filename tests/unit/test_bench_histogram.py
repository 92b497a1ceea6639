"""The histogram of times: narrow buckets, right quantiles, nothing lost on the way through JSON."""

import json

import pytest

from tests.bench.histogram import Histogram, bucket_of, middle_of


@pytest.mark.parametrize("micros", [0, 1, 63, 64, 65, 127, 128, 129, 1000, 4095, 4096, 123_456, 10**9])
def test_a_bucket_is_near_its_times(micros):
    assert middle_of(bucket_of(micros)) == pytest.approx(micros, rel=0.009, abs=0.5)


def test_buckets_never_go_back():
    buckets = [bucket_of(micros) for micros in range(100_000)]
    assert buckets == sorted(buckets)
    assert max(second - first for first, second in zip(buckets, buckets[1:])) == 1


def test_what_is_too_long_falls_into_the_last():
    assert bucket_of(2**60) == len(Histogram().counts) - 1
    assert bucket_of(-5) == 0


@pytest.mark.parametrize("share, wanted", [(0.0, 0.001), (0.5, 0.051), (0.99, 0.1), (1.0, 0.1)])
def test_quantiles_of_a_hundred_times(share, wanted):
    times = Histogram()
    for milli in range(1, 101):
        times.add(milli * 1000)
    assert times.quantile(share) == pytest.approx(wanted, rel=0.01)


def test_nothing_has_no_quantile():
    assert Histogram().quantile(0.5) is None


def test_merging_adds():
    first, second = Histogram(), Histogram()
    first.add(10)
    second.add(10)
    second.add(5_000_000)
    first.merge(json.loads(json.dumps(second.dump())))
    assert first.total() == 3
    assert first.dump() == {"10": 2, str(bucket_of(5_000_000)): 1}
