"""What a user of the HTTP API can do, for tests that know nothing else of Longwick."""

import json
from typing import Any

import httpx2
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
        found: list[tuple[int, Json]] = []
        position = 0
        with self.http.stream("GET", f"/runs/{run['id']}/events", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    position = int(line[4:])
                elif line.startswith("data: "):
                    found.append((position, json.loads(line[6:])))
                    if len(found) == most:
                        break
        return found

    def close(self) -> None:
        self.root.close()
        self.http.close()
