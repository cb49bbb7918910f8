"""To wait for what takes long, and show meanwhile that whoever waits is alive."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

TICK_SECONDS = 1.0
Alive = Callable[[], None]
"""Called every second; it may raise to have the work left be."""


def patiently(work: Callable[[], None], alive: Alive) -> None:
    """Do it in a thread of its own, and call `alive` until it is done."""
    pool = ThreadPoolExecutor(1, "patience")
    try:
        done = pool.submit(work)
        while not wait([done], TICK_SECONDS).done:
            alive()
        done.result()
    finally:
        pool.shutdown(wait=False)
