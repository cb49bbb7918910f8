"""Every knob of Longwick; the only reader of the process's environment."""

import ipaddress
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from longwick.errors import BadSetting

PREFIX = "LONGWICK_"
FILE = "_FILE"
# Names that an agent or a client is given; a server command meets them and must not call them misspelt.
FOREIGN_NAMES = {"RUN_ID", "THREAD_ID", "ATTEMPT", "MCP_TOKEN", "URL", "API_KEY"}


class Settings(BaseModel, frozen=True, extra="forbid", validate_default=True):
    """One field a variable: `database_url` is read from `LONGWICK_DATABASE_URL`. docs/settings.md explains each."""

    data_dir: Path = Path("longwick-data")
    database_url: str = ""
    redis_url: str = ""
    storage_url: str = ""
    """Where the bytes of files are, if not in the data dir: `s3://BUCKET/PREFIX`."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    trust_network: bool = False
    """Whether whoever reaches an address of ours that is not loopback may be taken for the owner."""
    mcp_url: str = "http://127.0.0.1:8001/mcp"
    worker_metrics_port: int = Field(0, ge=0, le=65535)
    """0 for none."""
    flower_port: int = Field(5555, ge=0, le=65535)
    flower_password: str = ""
    """Made, and kept in the data dir, where none is set."""
    agents_file: Path | None = None
    default_agent: str | None = None
    claude_bin: Path | None = None
    codex_bin: Path | None = None
    concurrency: int = Field(16, ge=1, le=1000)
    allow_unsandboxed: bool = False
    warm_spares: int = Field(1, ge=0, le=100)
    """How many CLIs of an agent a worker starts before anybody asks."""
    beat_seconds: float = Field(2.0, gt=0)
    lease_seconds: float = Field(8.0, gt=0)
    sweep_seconds: float = Field(1.0, gt=0)
    drain_seconds: float = Field(60.0, ge=0)
    """How long a worker that was told to stop lets its runs finish."""
    run_timeout_seconds: float = Field(3600.0, gt=0)
    """The longest that a run may take, where its request says nothing."""
    idle_timeout_seconds: float = Field(600.0, gt=0)
    """The longest silence of a CLI, where the request says nothing."""
    approval_seconds: float = Field(86_400.0, gt=0)
    """How long somebody has to allow what an agent asks; then it is denied."""
    park_seconds: float = Field(60.0, gt=0)
    """How long a CLI is kept waiting for that; then it is ended, and its run goes on once it is decided."""
    artifact_bytes: int = Field(24 * 2**20, gt=0)
    """The largest artifact, in bytes."""
    artifacts_per_run: int = Field(1000, gt=0)
    artifact_bytes_per_run: int = Field(2**30, gt=0)
    """How much a run may save, all files together, in bytes."""
    artifacts_per_owner: int = Field(100_000, gt=0)
    artifact_bytes_per_owner: int = Field(100 * 2**30, gt=0)
    """How much the threads of an owner may hold, uploads too, in bytes."""
    workspace_bytes: int = Field(2**30, gt=0)
    """How much of a folder that follows its thread is kept, in bytes."""
    workspace_files: int = Field(50_000, gt=0)
    """How many files, folders and links of it."""
    output_bytes_per_run: int = Field(64 * 2**20, gt=0)
    """How much a CLI may print in a run, in bytes."""
    queued_per_owner: int = Field(10_000, gt=0)
    """How many runs of one owner may wait."""
    body_bytes: int = Field(2**20, gt=0)
    """The largest body of a JSON request to the web tier, in bytes."""
    keep_deltas_days: int = Field(30, ge=0)
    """How long the pieces of texts are kept that are there as a whole, too; 0 is for ever."""
    keep_threads_days: int = Field(0, ge=0)
    """How long a thread is kept in which nothing happens; 0 is for ever."""
    keep_deleted_days: int = Field(30, ge=0)
    """How long a deleted thread can be brought back; 0 is for ever."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    @field_validator("data_dir", "agents_file", "claude_bin", "codex_bin")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_seconds < 3 * self.beat_seconds:
            raise ValueError("LONGWICK_LEASE_SECONDS must be at least three times LONGWICK_BEAT_SECONDS")
        return self

    @property
    def blobs(self) -> Path:
        """Where this host keeps the bytes of files."""
        return self.data_dir / "blobs"

    @property
    def database(self) -> str:
        """The record's URL: what was set, or the SQLite file of the data dir."""
        return self.database_url or f"sqlite:///{self.data_dir / 'record.db'}"

    @property
    def redis(self) -> str:
        """The URL of Redis: what was set, or a server on its usual port."""
        return self.redis_url or "redis://127.0.0.1:6379/0"

    def check_bind(self, host: str) -> None:
        """Refuse an address that others can reach, as long as nothing asks them who they are.

        Raises:
            BadSetting: it is one, and the network is not said to be trusted.
        """
        if not is_loopback(host) and not self.trust_network:
            raise BadSetting(
                f"LONGWICK_HOST: {host} can be reached from other machines, and there is no sign-in yet: anyone there "
                "could run agents here. Use 127.0.0.1, and a tunnel (ssh -L) to reach it from elsewhere."
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, **overrides: object) -> Self:
        """Read `LONGWICK_*` from `.env` and the environment (which wins), then `overrides` that are not None.

        Raises:
            BadSetting: a name that is not known (with the nearest that is) or a value that does not fit.
        """
        sources: list[Mapping[str, str | None]] = [environ or {}]
        if environ is None:
            sources = [dotenv_values(".env"), os.environ]
        named: dict[str, str] = {}
        for source in sources:
            named |= _ours(source, cls.model_fields)
        values: dict[str, object] = {}
        for name, value in named.items():
            field = name.lower()
            if field in cls.model_fields:
                if value:
                    values[field] = value
            elif name not in FOREIGN_NAMES:
                near = get_close_matches(field, cls.model_fields, n=1)
                hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
                raise BadSetting(f"unknown setting {PREFIX}{name}{hint} (docs/settings.md lists them all)")
        values.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                # It is about several, and its input is all of them: passwords, too.
                raise BadSetting(first["msg"].removeprefix("Value error, ")) from error
            name = PREFIX + str(first["loc"][0]).upper()
            raise BadSetting(f"{name}: {first['msg']} (got {str(first['input'])[:100]!r})") from error

    def child_environ(self) -> dict[str, str]:
        """This process's environment, with the variables that give a child process these very settings."""
        named = {
            PREFIX + name.upper(): str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in self.model_dump().items()
            if value not in (None, "")
        }
        return {name: value for name, value in os.environ.items() if name.removesuffix(FILE) not in named} | named


def is_loopback(host: str) -> bool:
    """Whether a server that binds to `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ours(environ: Mapping[str, str | None], fields: Iterable[str]) -> dict[str, str]:
    """The variables that are meant for us, without their prefix; a setting's `NAME_FILE` is the NAME in that file.

    Raises:
        BadSetting: such a file cannot be read, or its NAME is set, too.
    """
    given = {name.removeprefix(PREFIX): value or "" for name, value in environ.items() if name.startswith(PREFIX)}
    ours = {}
    for name, value in given.items():
        setting = name.removesuffix(FILE)
        if name.lower() in fields or setting.lower() not in fields:
            ours[name] = value
        elif value and given.get(setting):
            raise BadSetting(f"{PREFIX}{setting} and {PREFIX}{name} are both set; choose one")
        elif value:
            try:
                ours[setting] = Path(value).read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadSetting(f"{PREFIX}{name}: cannot read {value}: {error}") from error
    return ours


def environ_values(names: Iterable[str]) -> dict[str, str]:
    """Those of this process's variables that are to be passed on to an agent."""
    return {name: os.environ[name] for name in names if name in os.environ}
