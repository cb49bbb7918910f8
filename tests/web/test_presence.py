"""Open streams as `longwick-web` serves them: whose they are, and that they end with what let them in."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from processes import Launch
from served import read_frame, serve_web

from longwick import keys, runs, threads
from longwick.database import Database
from longwick.errors import Unavailable
from longwick.models import Run
from longwick.passes import Hold
from longwick.runs import NewRun
from longwick.settings import Settings
from web.presence import Presence

API = "/api/v1"


def run_of(database: Database, owner: str) -> Run:
    return database.write(lambda db: runs.create(db, threads.create(db, owner), NewRun("hello", "demo")))


def open_stream(url: str, key: str | None = None) -> Any:
    headers = {"accept": "text/event-stream"} | ({"authorization": f"Bearer {key}"} if key else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)


def lines_to_the_end(stream: Any) -> str:
    """What comes until the server closes the stream; the timeout of the connection is the limit."""
    found: str = stream.read().decode()
    return found


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a25_streams_show_an_owner_their_own_and_end_with_the_key(
    launch: Launch, settings: Settings, database: Database
) -> None:
    process, url = serve_web(launch, settings)
    with open_stream(f"{url}{API}/feed") as of_whoever_is_here:
        assert read_frame(of_whoever_is_here) == {"type": "snapshot", "runs": []}
        mine = database.write(lambda db: keys.create(db, "ann"))
        # With the first key nobody is here by being here.
        assert "data" not in lines_to_the_end(of_whoever_is_here)
    theirs = database.write(lambda db: keys.create(db, "bob"))
    run, other = run_of(database, "ann"), run_of(database, "bob")
    asked = urllib.request.Request(f"{url}{API}/tickets", b"{}", {"content-type": "application/json"})
    asked.add_header("authorization", f"Bearer {mine.text}")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        ticket = json.load(answer)
    events = f"{url}{API}/runs/{run.id}/events"
    with (
        open_stream(f"{url}{API}/feed", theirs.text) as their_feed,
        open_stream(f"{url}{API}/feed", mine.text) as my_feed,
        open_stream(url + ticket["url"]) as by_ticket,
        open_stream(events, mine.text) as my_run,
    ):
        for feed, seen in ((their_feed, other), (my_feed, run), (by_ticket, run)):
            assert [found["id"] for found in read_frame(feed)["runs"]] == [seen.id]
        assert my_run.readline() == b"id: 1\n"
        database.write(lambda db: keys.revoke(db, mine.key.id))
        for stream in (my_feed, by_ticket, my_run):
            lines_to_the_end(stream)
        later = run_of(database, "ann"), run_of(database, "bob")
        assert read_frame(their_feed)["run"]["id"] == later[1].id
    with pytest.raises(urllib.error.HTTPError, match="401"):
        open_stream(events, mine.text)
    assert not any(secret in process.output for secret in (ticket["ticket"], mine.text, theirs.text))
    assert "Traceback" not in process.output


def test_a38_a_stream_ends_with_its_key_also_while_the_record_takes_no_writes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = database.write(lambda db: keys.create(db, "ann")).key
    database.write(lambda db: keys.revoke(db, key.id))
    monkeypatch.setattr("web.presence.LOOK_SECONDS", 0.01)

    def refuse(work: object) -> None:
        raise Unavailable("the disk is full")

    async def story() -> None:
        presence = Presence(database)
        presence.note_use(key.id)
        with presence.of(Hold(key.id)) as over:
            async with presence.looked_after():
                await asyncio.wait_for(over.wait(), 10)

    monkeypatch.setattr(database, "write", refuse)
    asyncio.run(story())
