"""The load: people who submit, read, go away, come back and cancel, while everything breaks around them."""

import contextlib
import random
import threading
import time
import uuid
from typing import Any, Self

import httpx2
from stack import Json, Reader, submit_once

MOST_OPEN = 24
READ = 0.7
"""How many of the runs are read while they go on; some of them by several."""


class Load:
    """Threads that submit, and readers of what was accepted. Enter it to start."""

    def __init__(self, url: str, chance: random.Random, submitters: int = 3) -> None:
        self.url = url
        self._chance = chance
        self._submitting = threading.Event()
        self._threads = [threading.Thread(target=self._submit_on, daemon=True) for _ in range(submitters)]
        self._lock = threading.Lock()
        self._readers: list[tuple[str, Reader]] = []
        self.accepted: dict[str, float] = {}
        """The ids of the runs, and when each was accepted."""
        self.submissions = 0
        """Requests, with those that had to be repeated."""
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._submitting.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._submitting.clear()
        for thread in self._threads:
            thread.join(30)
        for _, reader in self._readers:
            reader.__exit__()

    @property
    def reconnects(self) -> int:
        return sum(max(0, reader.connections - 1) for _, reader in self._readers)

    @property
    def readers(self) -> int:
        return len(self._readers)

    def come_to_rest(self, seconds: float) -> list[tuple[str, list[Json]]]:
        """Submit no more, wait until everything is over, and return what each reader has seen, by run."""
        self._submitting.clear()
        for thread in self._threads:
            thread.join(30)
        give_up = time.monotonic() + seconds
        while (left := self._unsettled()) and time.monotonic() < give_up:
            time.sleep(0.2)
        self.failures += [f"{run['id']} is {run['status']} still" for run in left]
        seen = []
        for run_id, reader in self._readers:
            try:
                seen.append((run_id, reader.wait(max(1.0, give_up - time.monotonic()))))
            except AssertionError as error:
                self.failures.append(f"a reader of {run_id}: {error}")
        return seen

    def _submit_on(self) -> None:
        with httpx2.Client(base_url=f"{self.url}/api/v1", timeout=5, trust_env=False) as http:
            while self._submitting.is_set():
                if len([reader for _, reader in self._readers if not reader.done.is_set()]) >= MOST_OPEN:
                    time.sleep(0.05)
                    continue
                run = self._submit(http)
                if run is not None:
                    self._read(run)
                    if self._chance.random() < 0.1:
                        with contextlib.suppress(httpx2.TransportError):
                            http.post(f"/runs/{run['id']}/cancel")

    def _submit(self, http: httpx2.Client) -> Json | None:
        """A run that is accepted once, however often it has to be asked for; None when it is time to stop."""
        with self._lock:
            body = self._request()
            key = uuid.uuid4().hex
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            self.submissions += 1
            try:
                run = submit_once(http, body, key)
            except AssertionError as error:
                self.failures.append(f"a submission was refused: {error}")
                return None
            if run is not None:
                with self._lock:
                    self.accepted[run["id"]] = time.monotonic()
                return run
            time.sleep(0.1)
        self.failures.append("a submission was not accepted for 60 s")
        return None

    def _request(self) -> dict[str, Any]:
        chance = self._chance
        pieces, gap = chance.randrange(1, 60), chance.choice([0, 0.01, 0.05])
        text = chance.choice(
            [
                f"say {pieces} {gap}",
                f"say {pieces} {gap}; save a.txt; say {pieces} {gap}",
                f"count {pieces} {gap}; save b.txt; count {2 * pieces} {gap}",
                f"leave c.txt; say {pieces} {gap}",
                f"say {pieces} {gap}; exit 3",
            ]
        )
        body = {"input": text, "agent": "script", "kind": chance.choice(["chat", "chat", "background"])}
        if text.startswith("count"):
            body["on_worker_lost"] = "retry"
        return body

    def _read(self, run: Json) -> None:
        with self._lock:
            wanted = 0 if self._chance.random() > READ else self._chance.choice([1, 1, 2])
            drops = [self._chance.choice([None, 3, 17]) for _ in range(wanted)]
        for drop in drops:
            reader = Reader(self, run, give_up_after=drop)
            reader.__enter__()
            with self._lock:
                self._readers.append((run["id"], reader))

    def _unsettled(self) -> list[Json]:
        with (
            contextlib.suppress(httpx2.TransportError, ValueError, KeyError),
            httpx2.Client(base_url=f"{self.url}/api/v1", timeout=5, trust_env=False) as http,
        ):
            found: list[Json] = http.get("/runs?status=queued,running&limit=1000").json()["data"]
            return found
        return [{"id": "a run", "status": "perhaps unsettled"}]
