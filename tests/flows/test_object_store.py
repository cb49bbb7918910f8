"""Two hosts that share an object store and no folder: what one keeps the other finds, and an outage loses nothing."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hosting import Site, over, submit
from postgres import Postgres
from s3 import CREDENTIALS, S3
from stack import check_whole
from waiting import wait_for

from longwick import audit
from longwick.database import Database
from longwick.object_store import ObjectStorage
from longwick.valkey import Valkey


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Of these tests alone, for they take it away."""
    with S3(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(scope="module")
def site(
    postgres: Postgres, migrated_template: str, valkey: Valkey, store: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    told = {"LONGWICK_STORAGE_URL": store.url("files"), "LONGWICK_CONCURRENCY": "4", **CREDENTIALS}
    folder = tmp_path_factory.mktemp("site")
    with (
        postgres.database(migrated_template) as url,
        Site("nginx", folder, url, valkey.url, **told).running() as site,
    ):
        yield site
        assert list(site.blobs.iterdir()) == []


@pytest.fixture
def http(site: Site) -> Iterator[httpx2.Client]:
    with site.proxy.client(http2=False) as http:
        yield http


@pytest.fixture
def audited(site: Site, store: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever was done to them, the record and the files keep their promises."""
    yield
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    database = Database(site.record_url)
    assert list(audit.audit(database, ObjectStorage(store.url("files"), tmp_path / "spool"))) == []
    database.dispose()


@pytest.mark.usefixtures("audited")
def test_a_thread_goes_from_worker_to_worker_with_its_folder_and_its_files(site: Site, http: httpx2.Client) -> None:
    thread = http.post("/api/v1/threads", json={}).json()["id"]
    places: set[str] = set()
    turn = 0

    def both() -> bool:
        nonlocal turn
        text = f"where; read note.txt; write note.txt turn-{turn}; save {turn}.txt"
        run = over(http, submit(http, text, thread, agent="keeper"))
        assert run["status"] == "succeeded"
        assert run["output_text"].endswith(f"turn-{turn - 1}" if turn else "no note.txt")
        places.update(str(host.data_dir) for host in site.hosts if run["output_text"].startswith(str(host.data_dir)))
        turn += 1
        return len(places) == 2

    wait_for(both, 60, "either worker to have had a turn")
    for host in site.hosts:
        with httpx2.Client(base_url=f"{host.url}/api/v1", timeout=30, trust_env=False) as web:
            saved = web.get(f"/threads/{thread}/artifacts").json()["data"]
            assert sorted(each["name"] for each in saved) == sorted(f"{number}.txt" for number in range(turn))
            for each in saved:
                assert web.get(f"/artifacts/{each['id']}/content").text == f"made by {each['run_id']}\n"


@pytest.mark.usefixtures("audited")
def test_f48_a_store_that_is_away_in_the_middle_of_a_run_costs_it_a_file_and_nothing_else(
    site: Site, store: S3, http: httpx2.Client, tmp_path: Path
) -> None:
    gate, later = tmp_path / "gate", tmp_path / "later"
    run = submit(http, f"save before.txt; say 1 0; wait {gate}; save during.txt; say 1 0; wait {later}; save after.txt")
    events = f"/api/v1/runs/{run['id']}/events"

    def said() -> int:
        return sum(event["type"] == "message.delta" for event in http.get(events).json()["data"])

    wait_for(lambda: said() == 1, 20, "the run to run")
    store.stop()
    gate.touch()
    wait_for(lambda: said() == 2, 60, "the run to go on without it")
    (before,) = http.get(f"/api/v1/runs/{run['id']}/artifacts").json()["data"]
    refused = http.get(f"/api/v1/artifacts/{before['id']}/content", timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    store.start()
    later.touch()
    ended = over(http, run, 60)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    saved = http.get(f"/api/v1/runs/{run['id']}/artifacts").json()["data"]
    assert sorted(each["name"] for each in saved) == ["after.txt", "before.txt"]
    assert all(http.get(f"/api/v1/artifacts/{each['id']}/content").status_code == 200 for each in saved)
    log = http.get(events).json()["data"]
    check_whole(log)
    (failed,) = [event["data"] for event in log if event["type"] == "tool.completed" and event["data"]["is_error"]]
    assert "storage_unavailable" in str(failed)
