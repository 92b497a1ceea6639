"""Constant databases in D. J. Bernstein's cdb format (32 bits): finding a key, and writing a file.

Reading runs in the process that asks, with pread: a file that is truncated while it is read causes a
ValueError, where a mapping would cause SIGBUS.  Writing runs in tools.  Both raise OSError; reading
raises ValueError for a damaged file, writing for data that does not fit.

    2048 octets     256 × (position, slots) of the hash tables, all numbers 32 bits, little-endian
    records         (key length, data length) key data
    hash tables     slots × (hash, position of the record), position 0: an empty slot

The low 8 bits of a key's hash choose the table, the others the slot where the search begins; it
continues, wrapping around at the end, to the first empty slot.
"""

import os
import struct
from collections.abc import Iterable
from typing import BinaryIO

_PAIR = struct.Struct("<II")
_HEADER = 256 * _PAIR.size
_MAX_POSITION = (1 << 32) - 1
_PROBES_AT_ONCE = 64


def find(fd: int, key: bytes, limit: int) -> bytes | None:
    """Return the first record of `key`, or None.

    Raises ValueError for a damaged file and for a record of more than `limit` octets, and OSError.
    """
    hashed = hash_of(key)
    table, slots = _pair(fd, (hashed & 255) * _PAIR.size)
    if slots == 0:
        return None
    if table < _HEADER or table + slots * _PAIR.size > os.fstat(fd).st_size:
        raise ValueError("the constant database is damaged or cut short")
    first = (hashed >> 8) % slots
    for begin, end in ((first, slots), (0, first)):
        for probe in range(begin, end, _PROBES_AT_ONCE):
            count = min(_PROBES_AT_ONCE, end - probe)
            block = _exactly(fd, count * _PAIR.size, table + probe * _PAIR.size)
            for stored, position in _PAIR.iter_unpack(block):
                if position == 0:
                    return None
                if stored == hashed and (data := _record(fd, position, key, limit)) is not None:
                    return data
    return None


def write(output: BinaryIO, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a database of (key, data) to a new, seekable file; return the number of records.

    Raises ValueError if it would be larger than 4 GiB, and OSError.
    """
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    output.write(bytes(_HEADER))
    position = _HEADER
    for key, data in records:
        output.write(_PAIR.pack(len(key), len(data)) + key + data)
        hashed = hash_of(key)
        tables[hashed & 255].append((hashed, position))
        position = _fitting(position + _PAIR.size + len(key) + len(data))
    header: list[bytes] = []
    for table in tables:
        slots = _slots_of(table)
        output.write(b"".join(_PAIR.pack(*slot) for slot in slots))
        header.append(_PAIR.pack(position, len(slots)))
        position = _fitting(position + len(slots) * _PAIR.size)
    output.seek(0)
    output.write(b"".join(header))
    return sum(len(table) for table in tables)


def hash_of(key: bytes) -> int:
    """Return cdb's hash of a key."""
    hashed = 5381
    for octet in key:
        hashed = (hashed * 33 & 0xffffffff) ^ octet
    return hashed


def _slots_of(table: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return a hash table, half full, with the records in the order in which they were added."""
    slots = [(0, 0)] * (2 * len(table))
    for hashed, position in table:
        slot = (hashed >> 8) % len(slots)
        while slots[slot][1]:
            slot = (slot + 1) % len(slots)
        slots[slot] = (hashed, position)
    return slots


def _record(fd: int, position: int, key: bytes, limit: int) -> bytes | None:
    """Return the data of the record at `position`, or None if it is another key's."""
    key_length, data_length = _pair(fd, position)
    if key_length != len(key) or _exactly(fd, key_length, position + _PAIR.size) != key:
        return None
    if data_length > limit:
        raise ValueError(f"the record has more than {limit} octets")
    return _exactly(fd, data_length, position + _PAIR.size + key_length)


def _pair(fd: int, position: int) -> tuple[int, int]:
    first, second = _PAIR.unpack(_exactly(fd, _PAIR.size, position))
    return first, second


def _exactly(fd: int, length: int, position: int) -> bytes:
    data = os.pread(fd, length, position)
    if len(data) != length:
        raise ValueError("the constant database is damaged or cut short")
    return data


def _fitting(position: int) -> int:
    if position > _MAX_POSITION:
        raise ValueError("a constant database cannot be larger than 4 GiB")
    return position
