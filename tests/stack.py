"""The whole product as its users run it: `longwick up` as a process tree, spoken to over HTTP only."""

import contextlib
import json
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import httpx2
import psutil
from processes import Launch, Process
from waiting import wait_for

from longwick.valkey import Valkey

Json = dict[str, Any]
AGENTS = Path(__file__).parent / "agents"
TIERS = {"web": "web", "mcp": "mcp_server", "worker": "worker", "flower": "longwick.flower"}


class Stack:
    """A running `longwick up`. Enter it to start, leave it to end all of it."""

    def __init__(
        self, folder: Path, env: Mapping[str, str], ready_seconds: float = 90, *, flower: bool = False
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._env = {
            "LONGWICK_DATA_DIR": str(self.data_dir),
            "LONGWICK_AGENTS_FILE": str(AGENTS / "agents.toml"),
            "LONGWICK_PORT": "0",
            # Scripted agents wait for files of their tests, and say who they are to them.
            "LONGWICK_SANDBOX": "none",
            "LONGWICK_DRAIN_SECONDS": "1",
            # Outlasts a busy machine, on which a lease of the usual length may be over before its beat is written.
            "LONGWICK_LEASE_SECONDS": "30",
            **env,
        }
        self._options = [] if flower else ["--no-flower"]
        self._ready_seconds = ready_seconds
        self.process: Process
        self.url = ""
        self.http: httpx2.Client

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        longwick = Path(sys.executable).with_name("longwick")
        self.process = Process([longwick, "up", *self._options], self.folder / "up.log", env=self._env)
        try:
            ready = wait_for(self._url_said, self._ready_seconds, "longwick up to say its URL")
        except AssertionError:
            print(self.process.output)
            self.process.end()
            raise
        self.url = ready
        # A connection that the server is about to end is none to ask over.
        limits = httpx2.Limits(keepalive_expiry=1)
        self.http = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=20, limits=limits, trust_env=False)
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()
        self.process.end()
        if exc[0] is not None:
            print(self.said)

    def crash(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Kill `up`, and with it everything; then start it again."""
        self.process.send(signal.SIGKILL)
        self.process.wait(30)
        self.http.close()
        meanwhile()
        self.__enter__()

    @property
    def said(self) -> str:
        """What `up` and the tiers have printed."""
        logs = sorted((self.data_dir / "logs").glob("*.log"))
        return "\n".join([self.process.output, *(f"--- {log.name}\n{log.read_text()[-6000:]}" for log in logs)])

    def _url_said(self) -> str | None:
        assert self.process.returncode is None, self.process.output
        return next((line.split()[-1] for line in self.process.output.splitlines() if "is ready: http" in line), None)

    def well(self) -> Json:
        """What it says of its health, once all of its parts are there."""

        def ready() -> Json | None:
            with contextlib.suppress(httpx2.TransportError):
                said: Json = self.http.get(f"{self.url}/readyz").json()
                return said if said["status"] == "ok" and self.find_pid("worker") else None
            return None

        return wait_for(ready, what="all of its parts to be well")

    def pid(self, tier: str) -> int:
        """The process of a tier (web, mcp, worker, valkey) that runs now."""
        return wait_for(lambda: self.find_pid(tier), what=f"a {tier} process")

    def find_pid(self, tier: str) -> int | None:
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                command = child.cmdline()
                if (tier == "valkey" and "valkey-server" in " ".join(command)) or (
                    tier in TIERS and command[1:4] == ["-P", "-m", TIERS[tier]]
                ):
                    return child.pid
        return None

    @property
    def redis_url(self) -> str:
        """Its own Valkey."""
        return Valkey(self.data_dir / "valkey").url

    @property
    def environ(self) -> dict[str, str]:
        """The settings that `up` gives its tiers."""
        environ = psutil.Process(self.pid("web")).environ()
        return {name: value for name, value in environ.items() if name.startswith("LONGWICK_")}

    def kill(self, tier: str, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a tier's process, and to nothing else; returns its pid."""
        pid = self.pid(tier)
        os.kill(pid, how)
        return pid

    def post(self, path: str, body: Json | None = None, expect: int = 202) -> Json:
        """POST, and the answer."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        found: Json = answer.json()
        return found

    def get(self, path: str) -> Json:
        """GET, and the answer."""
        answer = self.http.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        found: Json = answer.json()
        return found

    def run(self, text: str, agent: str = "script", thread: str | None = None, **more: Any) -> Json:
        """Submit a run."""
        body = {"input": text, "agent": agent, **more}
        return self.post(f"/threads/{thread}/runs" if thread else "/runs", body)

    def status(self, run: Json) -> str:
        """The run's status now."""
        status: str = self.get(f"/runs/{run['id']}")["status"]
        return status

    def settled(self, run: Json, seconds: float = 30) -> Json:
        """The run, once it is over."""

        def over() -> Json | None:
            with contextlib.suppress(httpx2.TransportError):
                now = self.get(f"/runs/{run['id']}")
                return now if now["finished_at"] else None
            return None

        return wait_for(over, seconds, f"{run['id']} to be over")

    def log_of(self, run: Json) -> list[Json]:
        """All events of a run, from the JSON list."""
        found: list[Json] = []
        while True:
            page = self.get(f"/runs/{run['id']}/events?limit=1000&after={len(found)}")
            found += page["data"]
            if not page["has_more"]:
                return found

    def text_of(self, run: Json) -> str:
        """The text that was streamed so far."""
        return "".join(event["data"]["text"] for event in self.log_of(run) if event["type"] == "message.delta")


def asking(provider_url: str) -> dict[str, str]:
    """The settings of a stack whose agent `asker` asks the models of a provider."""
    file = str(AGENTS / "asking.toml")
    return {"LONGWICK_AGENTS_FILE": file, "ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": provider_url}


def launch_worker(stack: Stack, launch: Launch, data_dir: Path) -> Process:
    """A second worker on the stack's record and Redis, as if on another host: its data dir is its own."""
    worker = launch([sys.executable, "-P", "-m", "worker"], env={**stack.environ, "LONGWICK_DATA_DIR": str(data_dir)})
    wait_for(lambda: "ready." in worker.output, 60, "the second worker to be ready")
    return worker


def submit_once(http: httpx2.Client, body: Json, key: str) -> Json | None:
    """One try at a run that is to be accepted once; None where the server is away, and the next try may succeed."""
    with contextlib.suppress(httpx2.TransportError):
        answer = http.post("/runs", json=body, headers={"idempotency-key": key})
        if answer.status_code == 202:
            run: Json = answer.json()
            return run
        assert answer.status_code == 503, (answer.status_code, answer.text)
    return None


class Server(Protocol):
    """What can be read from."""

    @property
    def url(self) -> str: ...


class Reader:
    """A reader of a run's stream that comes back after every break, as EventSource does, from the last id it saw."""

    def __init__(
        self,
        server: Server,
        run: Json,
        after: int = 0,
        give_up_after: int | None = None,
        trusted: ssl.SSLContext | bool = True,
    ) -> None:
        self._trusted = trusted
        self._url = f"{server.url}/api/v1/runs/{run['id']}/events"
        self.cursor = after
        self.events: list[Json] = []
        self.connections = 0
        self.done = threading.Event()
        self.error: Exception | None = None
        self._stopping = False
        self._drop = give_up_after
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        self._thread.join(10)

    def wait(self, seconds: float = 30) -> list[Json]:
        """All events, once the stream has come to its end."""
        if not self.done.wait(seconds):
            raise AssertionError(f"the stream did not end within {seconds} s; {len(self.events)} events so far")
        if self.error:
            raise self.error
        return self.events

    def _read(self) -> None:
        with httpx2.Client(timeout=httpx2.Timeout(5, read=40), verify=self._trusted, trust_env=False) as http:
            while not self._stopping:
                try:
                    if self._connect_once(http):
                        break
                except httpx2.TransportError:
                    self._pause.wait(0.05)
                except Exception as error:
                    self.error = error
                    break
        self.done.set()

    _pause = threading.Event()

    def _connect_once(self, http: httpx2.Client) -> bool:
        """Read until the connection ends; True when there is nothing more to come."""
        headers = {"accept": "text/event-stream", "last-event-id": str(self.cursor)}
        with http.stream("GET", self._url, headers=headers) as answer:
            self.connections += 1
            if answer.status_code == 204:
                return True
            if answer.status_code in (502, 503, 504):
                self._pause.wait(0.05)
                return False
            assert answer.status_code == 200, answer.status_code
            for seq, event in frames(answer.iter_lines()):
                self.cursor = seq
                self.events.append(event)
                if self._stopping:
                    return True
                if self._drop and len(self.events) % self._drop == 0:
                    return False
        return False


def frames(lines: Iterator[str]) -> Iterator[tuple[int, Json]]:
    """(id, event) of each frame of an SSE stream."""
    seq = 0
    for line in lines:
        if line.startswith("id: "):
            seq = int(line[4:])
        elif line.startswith("data: "):
            yield seq, json.loads(line[6:])


def check_whole(events: list[Json], *, ended: bool = True) -> None:
    """Each event once, in order, from the first to the terminal one."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ends = [event["type"] for event in events if event["type"] in ("run.succeeded", "run.failed", "run.cancelled")]
    assert len(ends) == (1 if ended else 0), ends
    assert not ended or events[-1]["type"] == ends[0]
