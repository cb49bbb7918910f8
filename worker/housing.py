"""Where the CLIs of a worker live: each in a sandbox with a door, or, where that cannot be had, beside the worker."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from longwick import isolation, keys
from longwick.database import Database
from longwick.errors import BadSetting
from longwick.profiles import Profile
from longwick.settings import Settings
from worker.door import Door
from worker.gateway import Gateway
from worker.passes import Pass
from worker.process import CliProcess
from worker.sandbox import PORT, Limits, Sandbox

DOOR_URL = f"http://127.0.0.1:{PORT}"
AROUND = "127.0.0.1,localhost"
PROXIED = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), DOOR_URL),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), AROUND),
}
"""How a CLI learns which way leads out."""


class Housing:
    """How the CLIs of this worker are started.

    Raises:
        BadSetting: a sandbox is wanted in any case, and cannot be had.
    """

    def __init__(self, settings: Settings, database: Database, gateway: Gateway, folder: Path) -> None:
        self._database = database
        self._gateway = gateway
        self.isolation = isolation.of(settings.sandbox)
        if settings.sandbox == "bwrap" and self.isolation.bwrap is None:
            raise BadSetting(f"LONGWICK_SANDBOX is bwrap, but {self.isolation.reason}")
        limits = Limits(
            settings.run_memory_bytes,
            settings.run_processes,
            settings.run_open_files,
            settings.run_file_bytes,
            settings.run_cpu_seconds,
        )
        hidden = [settings.data_dir, *([settings.agents_file] if settings.agents_file else []), Path.cwd() / ".env"]
        bwrap = self.isolation.bwrap
        self._sandbox = Sandbox(bwrap, limits, folder / "etc", hidden) if bwrap else None
        self.gateway_url = DOOR_URL if self._sandbox else gateway.url
        """Where a CLI finds the gateway."""
        self.mcp_url = f"{DOOR_URL}/mcp" if self._sandbox else settings.mcp_url
        """Where it finds our MCP server."""

    def reason_against(self, profile: Profile) -> str | None:
        """Why it cannot be run here, in words; None where it can."""
        reason = profile.unavailable()
        if reason is None and profile.has_tools and self._sandbox is None and self._is_shared():
            return f"there is no sandbox for it here ({self.isolation.reason}), and this server has several owners"
        return reason

    def _is_shared(self) -> bool:
        return len(self._database.read(keys.owners)) > 1

    def start(
        self,
        profile: Profile,
        argv: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        work: Path,
        *,
        given: Pass,
        wake: int,
    ) -> CliProcess:
        """Start a CLI in `work`, which with all of `folder` is its own; its pass is good for the door, too.

        Raises:
            OSError: it could not be started.
        """
        if self._sandbox is None:
            return CliProcess(argv, env=env, folder=work, wake=wake)
        room = self._sandbox.room([argv[0], *profile.command[1:]], folder, env.get("PATH", ""), profile.reads)
        process = CliProcess(argv, env={**PROXIED, **env}, folder=work, wake=wake, room=room)
        with ExitStack() as stack:
            stack.push(process)
            assert process.listener is not None
            process.until_left.enter_context(Door(self._gateway, given, process.listener))
            stack.pop_all()
        return process
