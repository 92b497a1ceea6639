"""Counting times without keeping them: a histogram whose buckets are at most 1.6 % wide.

Used in the processes of the load generator and where their answers come together.  Nothing here raises.
"""

from array import array
from collections.abc import Mapping

_FINE_BITS = 6                       # 64 buckets for each doubling
_FINE = 1 << _FINE_BITS
_SIZE = _FINE * (40 - _FINE_BITS)    # up to 2**39 microseconds, six days


def bucket_of(micros: int) -> int:
    """Return the bucket of a time; what is too long falls into the last."""
    if micros < _FINE:
        return max(0, micros)
    shift = micros.bit_length() - 1 - _FINE_BITS
    return min(_SIZE - 1, (shift << _FINE_BITS) + (micros >> shift))


def middle_of(bucket: int) -> float:
    """Return the time in the middle of a bucket, in microseconds."""
    if bucket < 2 * _FINE:
        return float(bucket)
    shift = (bucket >> _FINE_BITS) - 1
    low = (_FINE + (bucket & (_FINE - 1))) << shift
    return low + ((1 << shift) - 1) / 2


class Histogram:
    """How often which time was seen."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _SIZE))

    def add(self, micros: int) -> None:
        """Count one time in microseconds."""
        self.counts[bucket_of(micros)] += 1

    def total(self) -> int:
        """Return how many times were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the time in seconds below which `share` of all lie, or None when there are none."""
        total = self.total()
        if total == 0:
            return None
        rank = min(total - 1, int(share * total))
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen > rank:
                return middle_of(bucket) / 1e6
        raise AssertionError("the counts do not add up")

    def dump(self) -> dict[str, int]:
        """Return what is not zero, for JSON."""
        return {str(bucket): count for bucket, count in enumerate(self.counts) if count}

    def merge(self, dumped: Mapping[str, int]) -> None:
        """Add what `dump` of another one returned."""
        for bucket, count in dumped.items():
            self.counts[int(bucket)] += count
