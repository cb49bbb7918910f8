"""What can be asked of the server, written once for both clients."""

from collections.abc import Sequence
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from longwick.client.answers import (
    Agent,
    Answer,
    Approval,
    Artifact,
    Delivery,
    Event,
    Health,
    Message,
    Run,
    Thread,
    Usage,
)
from longwick.client.plans import API, Ask, Plan, not_ours, operation

A = TypeVar("A", bound=Answer)

PAGE = 1000


def _at(*parts: object) -> str:
    return API + "".join("/" + quote(str(part), safe="") for part in parts)


def _parsed(model: type[A], answer: httpx2.Response) -> A:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise not_ours(answer) from error


def _listed(model: type[A], path: str, limit: int | None, **params: object) -> Plan[list[A]]:
    """What a list holds, from as many of its pages as `limit` takes."""
    asked = {name: value for name, value in params.items() if value}
    found: list[A] = []
    while True:
        page = PAGE if limit is None else min(PAGE, limit - len(found))
        answer = yield Ask("GET", path, {**asked, "limit": page})
        try:
            listed = answer.json()
            found += [model.model_validate(item) for item in listed["data"]]
            asked["after"], more = listed["last_id"], listed["has_more"]
        except (ValueError, KeyError, TypeError) as error:
            raise not_ours(answer) from error
        if not more or (limit is not None and len(found) >= limit):
            return found


class Operations:
    """Each route of the API that a client needs."""

    @operation
    def create_run(
        self,
        /,
        input: str,  # noqa: A002 - the API's name
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        kind: str | None = None,
        artifact_generation: bool | None = None,
        if_busy: str | None = None,
        on_worker_lost: str | None = None,
        timeout_seconds: float | None = None,
        idle_timeout_seconds: float | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Plan[Run]:
        """Have an agent work on `input`, in a thread or in a new one; `kind="background"` for what nobody waits for.

        Sent again with the same `idempotency_key` it is the same run. `more` is for fields that a newer server knows.
        """
        asked = {
            "input": input,
            "agent": agent,
            "model": model,
            "kind": kind,
            "artifact_generation": artifact_generation,
            "if_busy": if_busy,
            "on_worker_lost": on_worker_lost,
            "timeout_seconds": timeout_seconds,
            "idle_timeout_seconds": idle_timeout_seconds,
            "metadata": metadata,
            **more,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        path = _at("threads", thread_id, "runs") if thread_id else _at("runs")
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return _parsed(Run, (yield Ask("POST", path, json=body, headers=headers)))

    @operation
    def get_run(self, run_id: str) -> Plan[Run]:
        """The run as it is now."""
        return _parsed(Run, (yield Ask("GET", _at("runs", run_id))))

    @operation
    def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        kind: str | None = None,
        thread_id: str | None = None,
        limit: int | None = 100,
        after: str | None = None,
    ) -> Plan[list[Run]]:
        """The newest runs, newest first; the next ones come after the last one's id. No limit: all there are."""
        asked = {"status": ",".join(status), "kind": kind, "thread_id": thread_id, "after": after}
        return (yield from _listed(Run, _at("runs"), limit, **asked))

    @operation
    def edit_run(self, run_id: str, /, input: str) -> Plan[Run]:  # noqa: A002 - the API's name
        """Ask something else in a run that waits. Raises Conflict once it was started."""
        return _parsed(Run, (yield Ask("PATCH", _at("runs", run_id), json={"input": input})))

    @operation
    def move_run(self, run_id: str, *, before: str | None = None) -> Plan[Run]:
        """Have it come before another run that waits in its thread, or last. Raises Conflict once one was started."""
        return _parsed(Run, (yield Ask("PATCH", _at("runs", run_id), json={"before": before})))

    @operation
    def cancel_run(self, run_id: str) -> Plan[Run]:
        """Have it stopped: at once where it waits, soon where it runs. Raises Conflict when it is over already."""
        return _parsed(Run, (yield Ask("POST", _at("runs", run_id, "cancel"))))

    @operation
    def retry_run(self, run_id: str) -> Plan[Run]:
        """A new run that asks the same as one that is over."""
        return _parsed(Run, (yield Ask("POST", _at("runs", run_id, "retry"))))

    @operation
    def say(self, run_id: str, /, input: str) -> Plan[Delivery]:  # noqa: A002 - the API's name
        """Say more to a run at work. Raises Conflict where its agent takes nothing more until its turn is over."""
        return _parsed(Delivery, (yield Ask("POST", _at("runs", run_id, "input"), json={"input": input})))

    @operation
    def list_approvals(
        self, *, status: Sequence[str] = ("pending",), limit: int | None = 100, after: str | None = None
    ) -> Plan[list[Approval]]:
        """What agents ask leave for, newest first; with `status=()` also what was decided. No limit: all there are."""
        return (yield from _listed(Approval, _at("approvals"), limit, status=",".join(status), after=after))

    @operation
    def decide(self, approval_id: str, decision: str, *, message: str | None = None) -> Plan[Approval]:
        """`allow` or `deny` a tool; an agent is told the message of a denial. Raises Conflict when it is decided."""
        body = {"decision": decision, **({"message": message} if message is not None else {})}
        return _parsed(Approval, (yield Ask("POST", _at("approvals", approval_id), json=body)))

    @operation
    def usage(self) -> Plan[Usage]:
        """What you may have, and how much of it is used."""
        return _parsed(Usage, (yield Ask("GET", _at("usage"))))

    @operation
    def create_thread(
        self, *, title: str = "", agent: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Plan[Thread]:
        """An empty thread. (A run that names none makes its own.)"""
        asked = {"title": title, "agent": agent, "metadata": metadata}
        body = {name: value for name, value in asked.items() if value}
        return _parsed(Thread, (yield Ask("POST", _at("threads"), json=body)))

    @operation
    def get_thread(self, thread_id: str) -> Plan[Thread]:
        """The thread as it is now."""
        return _parsed(Thread, (yield Ask("GET", _at("threads", thread_id))))

    @operation
    def update_thread(
        self, thread_id: str, *, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Plan[Thread]:
        """Give the thread another title or other metadata."""
        body = {name: value for name, value in (("title", title), ("metadata", metadata)) if value is not None}
        return _parsed(Thread, (yield Ask("PATCH", _at("threads", thread_id), json=body)))

    @operation
    def delete_thread(self, thread_id: str) -> Plan[None]:
        """Do away with the thread; what runs in it is cancelled first."""
        yield Ask("DELETE", _at("threads", thread_id))

    @operation
    def list_threads(
        self, *, q: str | None = None, limit: int | None = 100, after: str | None = None
    ) -> Plan[list[Thread]]:
        """The newest threads, newest first; with `q`, those with it in their title. No limit: all there are."""
        return (yield from _listed(Thread, _at("threads"), limit, q=q, after=after))

    @operation
    def list_messages(self, thread_id: str) -> Plan[list[Message]]:
        """All that was said in a thread, oldest first."""
        return (yield from _listed(Message, _at("threads", thread_id, "messages"), None))

    @operation
    def list_artifacts(self, of: str) -> Plan[list[Artifact]]:
        """All files of a run (its id) or of a thread, all versions, newest first."""
        kind = "threads" if of.startswith("thr_") else "runs"
        return (yield from _listed(Artifact, _at(kind, of, "artifacts"), None))

    @operation
    def attach_file(self, thread_id: str, name: str, content: bytes | BinaryIO) -> Plan[Artifact]:
        """Put a file into a thread; whoever works there can read it."""
        return _parsed(
            Artifact, (yield Ask("POST", _at("threads", thread_id, "files"), files={"file": (name, content)}))
        )

    @operation
    def read_archive(self, thread_id: str) -> Plan[bytes]:
        """The newest version of each file of a thread, as a zip."""
        return (yield Ask("GET", _at("threads", thread_id, "artifacts.zip"))).content

    @operation
    def get_artifact(self, artifact_id: str) -> Plan[Artifact]:
        """What is known of a file."""
        return _parsed(Artifact, (yield Ask("GET", _at("artifacts", artifact_id))))

    @operation
    def read_artifact(self, artifact_id: str) -> Plan[bytes]:
        """The bytes of a file."""
        return (yield Ask("GET", _at("artifacts", artifact_id, "content"))).content

    @operation
    def read_value(self, event: Event) -> Plan[Any]:
        """The value that was too large for an event: text, or what its JSON says."""
        answer = yield Ask("GET", _at("runs", event.run_id, "events", event.seq, "value"))
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text

    @operation
    def list_agents(self) -> Plan[list[Agent]]:
        """The agents, and whether they can run now."""
        return (yield from _listed(Agent, _at("agents"), None))

    @operation
    def health(self) -> Plan[Health]:
        """How the server and what it needs are, also when that is not well."""
        return _parsed(Health, (yield Ask("GET", "/readyz", any_status=True)))
