"""CLIs that are started before anybody asks, for the first turn of a thread: what a start costs is spent beforehand.

A spare has its folder, its connection to the MCP server, and a token that is worth nothing until an attempt takes it.
Only Claude Code in its kind `chat` is kept so: Codex serves all turns from one process (worker/shared.py), and what has
a history needs a start of its own.
"""

import logging
import os
import socket
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from longwick import sessions
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.models import Run
from longwick.profiles import MCP_NAME, Profile
from longwick.settings import Settings
from worker.agents import Turn, adapter_for
from worker.agents.lines import line_of, parse
from worker.gateway import Gateway
from worker.housing import Housing
from worker.passes import Pass
from worker.process import CliProcess
from worker.workspace import Workspace, make_folders, remove

log = logging.getLogger(__name__)

KEPT_SECONDS = 1800.0
"""How long a spare waits to be used, and how long after its last use an agent has one."""
PAUSE_SECONDS = 2.0
"""How long after one was taken the next is started: the one that was taken needs the processor now."""
START_SECONDS = 30.0
ASK = {"type": "control_request", "request_id": "spare", "request": {"subtype": "mcp_status"}}


@dataclass
class Spare:
    """A CLI that waits for its first message. Enter it to have its folder; leaving it ends the CLI and removes that."""

    command: object
    token: str = field(repr=False)
    given: Pass
    folder: Workspace
    process: CliProcess
    started_at: float
    ending: ExitStack
    """How all that it is made of ends."""

    def __enter__(self) -> Workspace:
        return self.folder

    def __exit__(self, *exc: object) -> None:
        self.ending.close()

    def end(self) -> None:
        """It is not needed; how it ends concerns nobody else."""
        try:
            self.ending.close()
        except Exception:
            log.exception("spare %d did not end well", self.process.pid)


class Spares:
    """The spares of a worker, and the thread that starts them, which lives as long as they do. Enter it to start."""

    def __init__(
        self, settings: Settings, database: Database, gateway: Gateway, housing: Housing, folder: Path
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._housing = housing
        self._database = database
        self._folder = folder
        self._ready: list[Spare] = []
        self._wanted: dict[object, tuple[Profile, float, float]] = {}
        """How it is started -> the profile, when it was last used, and when one may be started."""
        self._changed = threading.Condition()
        self._stopping = False
        self._ears, self._mouth = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="spares", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._mouth.send(b"!")
        self._thread.join(5)
        self._ears.close()
        self._mouth.close()

    def take(self, profile: Profile, run: Run) -> Spare | None:
        """A spare for this run, if there is one; in any case, the next run like it will find one."""
        if not _fits(profile, run) or not self._settings.warm_spares:
            return None
        command, now = _command(profile), time.monotonic()
        with self._changed:
            found = next((spare for spare in self._ready if spare.command == command), None)
            if found is not None:
                self._ready.remove(found)
            self._wanted[command] = (profile, now, now + PAUSE_SECONDS)
            self._changed.notify_all()
        if found is not None:
            log.info("spare %d is taken", found.process.pid)
            # It was started with the same words, but maybe at other prices.
            found.given.profile = profile
            found.process.poll(0)
            if found.process.ended:
                found.end()
                return None
        return found

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(PAUSE_SECONDS)
                old = [] if not self._stopping else self._ready
                old = old or [spare for spare in self._ready if time.monotonic() - spare.started_at > KEPT_SECONDS]
                self._ready = [spare for spare in self._ready if spare not in old]
                due = self._find_due()
            for spare in old:
                spare.end()
            if self._stopping:
                remove(self._folder)
                return
            if due is not None:
                self._start(*due)

    def _find_due(self) -> tuple[object, Profile] | None:
        now = time.monotonic()
        self._wanted = {key: want for key, want in self._wanted.items() if now - want[1] < KEPT_SECONDS}
        for command, (profile, _, start_at) in self._wanted.items():
            ready = sum(spare.command == command for spare in self._ready)
            if now >= start_at and ready < self._settings.warm_spares:
                return command, profile
        return None

    def _start(self, command: object, profile: Profile) -> None:
        spare = None
        try:
            spare = self._started(command, profile)
        except (OSError, LongwickError) as error:
            log.warning("no spare could be started: %s", error)
        except Exception:
            # With its thread, all would end that it has ever started: the kernel sees to that.
            log.exception("no spare could be started")
        with self._changed:
            if spare is not None:
                log.info("spare %d is ready", spare.process.pid)
                self._ready.append(spare)
            elif command in self._wanted:
                wanted, used_at, _ = self._wanted[command]
                self._wanted[command] = (wanted, used_at, time.monotonic() + START_SECONDS)

    def _started(self, command: object, profile: Profile) -> Spare | None:
        """A CLI that is connected to the MCP server; None where it does not come to that."""
        token = sessions.new_token()
        self._database.write(lambda db: sessions.hold_token(db, token, KEPT_SECONDS + START_SECONDS))
        with ExitStack() as unused:
            folder = make_folders(self._folder / uuid.uuid4().hex)
            unused.callback(remove, folder.folder)
            unused.callback(os.close, folder.descriptor)
            given = unused.enter_context(self._gateway.issued(profile))
            turn = Turn(
                *("", "", 0, "", []),
                mcp_url=self._housing.mcp_url,
                mcp_token=token,
                gateway_url=self._housing.gateway_url,
                gateway_token=given.token,
            )
            launch = adapter_for(profile, turn).launch(folder.work, folder.home)
            env, wake = folder.environ(profile, turn, launch.env), self._ears.fileno()
            process = unused.enter_context(
                self._housing.start(profile, launch.argv, env, folder.folder, folder.work, given=given, wake=wake)
            )
            started_at = time.monotonic()
            process.write(line_of(ASK))
            while time.monotonic() - started_at < START_SECONDS and not process.ended and not self._stopping:
                for line in process.poll(1.0):
                    if isinstance(line, bytes) and (connected := _is_connected(line)) is not None:
                        if connected:
                            return Spare(command, token, given, folder, process, started_at, unused.pop_all())
                        process.write(line_of(ASK))
        return None


def _fits(profile: Profile, run: Run) -> bool:
    """Whether a run could as well be had by a CLI that was started before anybody knew of it."""
    first = run.turn == 1 and run.attempt == 1 and run.artifact_generation
    plain = run.model in (None, next(iter(profile.models), None)) and run.max_cost_usd is None
    return profile.adapter == "claude" and profile.kind == "chat" and first and plain


def _command(profile: Profile) -> object:
    """What makes two starts the same."""
    return profile.model_dump_json(), tuple(sorted(profile.environ.items()))


def _is_connected(line: bytes) -> bool | None:
    """What an answer to `ASK` says of our server; None where the line is none."""
    said = parse(line)
    if said is None or said["type"] != "control_response":
        return None
    servers = ((said.get("response") or {}).get("response") or {}).get("mcpServers") or []
    return any(server.get("name") == MCP_NAME and server.get("status") == "connected" for server in servers)
