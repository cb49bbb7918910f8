"""Ids that sort by the time they were made: a prefix and 26 characters of Crockford's base 32."""

import os
import threading
import time
from datetime import datetime

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """`prefix_` + 48 bits of milliseconds + 80 random bits; later calls in one process always sort later."""
    global _last
    fresh = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    with _lock:
        # Within a millisecond, or when the clock steps back, count on from the last id.
        _last = value = fresh if fresh > _last else _last + 1
    return _encode(prefix, value)


def first_id(prefix: str, moment: datetime) -> str:
    """What sorts before every id that is made from `moment` on."""
    return _encode(prefix, int(moment.timestamp() * 1000) << 80)


def _encode(prefix: str, value: int) -> str:
    return f"{prefix}_" + "".join(ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
