"""A thread's folder in the whole product: a run today on one host, and the next one tomorrow on another."""

import sys
from pathlib import Path

import httpx2
import pytest
from processes import Launch, Process
from served import serve_web
from stack import AGENTS, Json
from waiting import wait_for

from longwick.settings import Settings


def launch_host(launch: Launch, settings: Settings, data_dir: Path) -> Process:
    """A worker with a data dir of its own, into which the shared folder of files is mounted, as it were."""
    data_dir.mkdir()
    settings.blobs.mkdir(parents=True, exist_ok=True)
    (data_dir / "blobs").symlink_to(settings.blobs)
    env = {
        "LONGWICK_DATA_DIR": str(data_dir),
        "LONGWICK_DATABASE_URL": settings.database_url,
        "LONGWICK_REDIS_URL": settings.redis_url,
        "LONGWICK_AGENTS_FILE": str(AGENTS / "agents.toml"),
        "LONGWICK_DRAIN_SECONDS": "1",
    }
    worker = launch([sys.executable, "-P", "-m", "worker"], env=env)
    wait_for(lambda: "ready." in worker.output, 20, "the worker to be ready")
    return worker


@pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)
def test_now_add_a_test_to_that_works_tomorrow_on_another_host(
    settings: Settings, launch: Launch, tmp_path: Path
) -> None:
    first = launch_host(launch, settings, tmp_path / "today")
    agents = str(AGENTS / "agents.toml")
    _, url = serve_web(launch, settings, LONGWICK_AGENTS_FILE=agents, LONGWICK_DEFAULT_AGENT="keeper")
    with httpx2.Client(base_url=f"{url}/api/v1", timeout=30, trust_env=False) as http:

        def ended(path: str, text: str) -> Json:
            run = http.post(path, json={"input": text}).json()

            def over() -> Json | None:
                now: Json = http.get(f"/runs/{run['id']}").json()
                return now if now["finished_at"] else None

            return wait_for(over, 20, "the run to be over")

        thread = http.post("/threads", json={}).json()["id"]
        http.post(f"/threads/{thread}/files", files={"file": ("data/in.csv", b"1,2,3")})
        wrote = ended(f"/threads/{thread}/runs", "where; read data/in.csv; write src/main.py answer=42")
        assert wrote["output_text"].startswith(str(tmp_path / "today"))
        assert wrote["output_text"].endswith("1,2,3")
        first.end()

        launch_host(launch, settings, tmp_path / "tomorrow")
        read = ended(f"/threads/{thread}/runs", "where; read src/main.py; read data/in.csv")
        assert read["output_text"].startswith(str(tmp_path / "tomorrow"))
        assert read["output_text"].endswith("answer=421,2,3")
