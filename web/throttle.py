"""How often an address may show a wrong key at the page's door before it has to wait."""

import ipaddress
import threading
import time
from collections import OrderedDict

from starlette.exceptions import HTTPException

MOST = 10
WINDOW_SECONDS = 60.0
ADDRESSES = 10_000
"""So many are remembered; the one that was longest ago goes first."""


class Throttle:
    """Counts the attempts of each address in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def enter(self, address: str) -> None:
        """Count an attempt, before it is known how it ends.

        Raises:
            HTTPException: there were too many; it says when the next may come.
        """
        place, now = _place(address), time.monotonic()
        with self._lock:
            began, count = self._attempts.pop(place, (now, 0))
            if now - began > WINDOW_SECONDS:
                began, count = now, 0
            self._attempts[place] = began, count + 1
            if len(self._attempts) > ADDRESSES:
                self._attempts.popitem(last=False)
        if count >= MOST:
            wait = {"Retry-After": str(int(WINDOW_SECONDS - (now - began)) + 1)}
            raise HTTPException(429, "too many wrong keys from this address: wait a minute", headers=wait)

    def succeeded(self, address: str) -> None:
        """Forget the attempts of an address that had a good key."""
        with self._lock:
            self._attempts.pop(_place(address), None)


def _place(address: str) -> str:
    """What counts as one place: whoever has an IPv6 address has its whole network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
