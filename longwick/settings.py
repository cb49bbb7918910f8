"""Every knob of Longwick; the only reader of the process's environment."""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from longwick.errors import BadSetting

PREFIX = "LONGWICK_"
FILE = "_FILE"
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE)|CREDENTIAL|COOKIE", re.IGNORECASE)
SECRET_CHARACTERS = 6
"""What is shorter is none, and would tear holes into what is said."""
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
    public_hosts: str = ""
    """By which names, with commas between them, the web tier is asked for, beside `host` and those of loopback."""
    proxy_sources: str = ""
    """From which addresses or networks, with commas between them, a proxy is believed."""
    proxy_user_header: str = Field("", pattern="^[A-Za-z0-9-]{0,100}$")
    """Where such a proxy says who asks; nobody is believed to where it is empty."""
    mcp_url: str = "http://127.0.0.1:8001/mcp"
    worker_metrics_host: str = "127.0.0.1"
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
    sandbox: Literal["auto", "bwrap", "none"] = "auto"
    """Whether agents are kept to themselves: where that works, always, or never."""
    run_memory_bytes: int = Field(4 * 2**30, gt=0)
    """How much memory an agent in a sandbox may use with all that it starts, in bytes."""
    run_processes: int = Field(512, ge=8)
    """How many processes and threads."""
    run_open_files: int = Field(4096, ge=64)
    """How many files each of its processes may have open."""
    run_file_bytes: int = Field(4 * 2**30, gt=0)
    """The largest file that it may write, in bytes."""
    run_cpu_seconds: int = Field(7200, gt=0)
    """How much processor time each of its processes may use, in seconds."""
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
    running_per_owner: int = Field(0, ge=0)
    """How many may be at work at once; 0 for as many as there are slots."""
    spend_usd_per_owner_per_day: float = Field(0, ge=0, allow_inf_nan=False)
    """What the runs of one owner may cost in a day, in UTC; 0 for no limit."""
    requests_per_second_per_owner: float = Field(200, ge=0, allow_inf_nan=False)
    """Lasting; for a moment five times as many. 0 for no limit."""
    streams_per_owner: int = Field(1000, ge=0)
    """How many streams one owner may have open at a web tier; 0 for no limit."""
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

    @field_validator("proxy_sources")
    @classmethod
    def _networks(cls, sources: str) -> str:
        for source in _parts(sources):
            ipaddress.ip_network(source)
        return sources

    @model_validator(mode="after")
    def _check_proxy(self) -> Self:
        if self.proxy_user_header and not self.proxy_sources:
            raise ValueError("LONGWICK_PROXY_USER_HEADER: LONGWICK_PROXY_SOURCES must say from where it is believed")
        return self

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

    @property
    def host_names(self) -> frozenset[str]:
        """The names that the web tier answers to, beside those of loopback."""
        return frozenset(name.lower() for name in (self.host, *_parts(self.public_hosts)))

    @property
    def proxies(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """From where a proxy is believed."""
        return [ipaddress.ip_network(source) for source in _parts(self.proxy_sources)]

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
        return host.lower() == "localhost"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


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


def secret_values() -> list[str]:
    """What of this process's environment is called a secret, the longest first."""
    found = {value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= SECRET_CHARACTERS}
    return sorted(found, key=len, reverse=True)
