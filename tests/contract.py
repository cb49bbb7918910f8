"""What a user of the HTTP API can do, for tests that know nothing else of Longwick."""

from itertools import islice
from typing import Any

import httpx2
from stack import frames
from waiting import wait_for

Json = dict[str, Any]


class Api:
    """The HTTP API of a server."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.root = httpx2.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        self.http = httpx2.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30, trust_env=False)

    def run(self, text: str = "Say hello.", thread: str | None = None, **more: Any) -> Json:
        """A run of the demo agent, accepted."""
        path = f"/threads/{thread}/runs" if thread else "/runs"
        answer = self.http.post(path, json={"input": text, "agent": "demo", **more})
        assert answer.status_code == 202, answer.text
        run: Json = answer.json()
        return run

    def get(self, path: str) -> Json:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def settled(self, run: Json, seconds: float = 60) -> Json:
        """The run, once it is over."""

        def over() -> Json | None:
            now = self.get(f"/runs/{run['id']}")
            return now if now["finished_at"] else None

        return wait_for(over, seconds, f"{run['id']} to be over")

    def stream(self, run: Json, after: int = 0, most: int | None = None) -> list[tuple[int, Json]]:
        """(id, event) of each frame past a cursor, until the server ends the stream or `most` were read."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        with self.http.stream("GET", f"/runs/{run['id']}/events", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            return list(islice(frames(answer.iter_lines()), most))

    def close(self) -> None:
        self.root.close()
        self.http.close()
