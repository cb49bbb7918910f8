"""Every metric of Longwick, for Prometheus to collect; docs/metrics.md says what each is good for.

As Prometheus has it they belong to the process, and so to this module. None is labelled with what grows without a limit
or says something of anybody: no owners, ids or words.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import func, select

from longwick.database import Db
from longwick.events import Batch
from longwick.kinds import UNSETTLED, RunKind
from longwick.models import Artifact, Run

log = logging.getLogger(__name__)

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
HOST = "127.0.0.1"
# They would double what is collected, to say when a process began.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it is not annotated

RUNS_ACCEPTED = Counter("longwick_runs_accepted_total", "Runs accepted", ["kind"])
RUNS_SETTLED = Counter("longwick_runs_settled_total", "Runs settled", ["status", "code"])
RUNS = Gauge("longwick_runs", "Runs that are not settled, as the record has them", ["kind", "status"])
RUN_SECONDS = Histogram(
    "longwick_run_duration_seconds",
    "Seconds from a run's first start to its end",
    buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600),
)
QUEUE_SECONDS = Histogram(
    "longwick_run_queue_seconds",
    "Seconds from a run's acceptance to its first start",
    ["kind"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900),
)
HINTS_SENT = Counter("longwick_hints_sent_total", "Hints sent to workers", ["lane"])

EVENTS_COMMITTED = Counter("longwick_events_committed_total", "Events committed to the logs of runs")
COMMIT_RUNS = Histogram(
    "longwick_recorder_commit_runs",
    "Runs whose events one commit of the Recorder took",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
COMMIT_SECONDS = Histogram(
    "longwick_recorder_commit_seconds",
    "Seconds that a commit of the Recorder took",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
LIVE_COPIES_DROPPED = Counter("longwick_live_copies_dropped_total", "Live copies that Redis did not take")

VIEWERS = Gauge("longwick_viewers", "Open event streams")
VIEWER_RESYNCS = Counter("longwick_viewer_resyncs_total", "Times that a stream went back to the record", ["reason"])

ARTIFACTS_SAVED = Counter("longwick_artifacts_saved_total", "Artifacts saved", ["type"])
ARTIFACT_BYTES_SAVED = Counter("longwick_artifact_saved_bytes_total", "Bytes of the artifacts saved", ["type"])
MCP_CALLS = Counter("longwick_mcp_calls_total", "Calls of our tools by agents", ["tool", "outcome"])

GATEWAY_REQUESTS = Counter("longwick_gateway_requests_total", "Requests of agents for models", ["provider", "status"])
GATEWAY_TOKENS = Counter("longwick_gateway_tokens_total", "Tokens that providers say were used", ["provider", "kind"])
GATEWAY_FIRST_BYTE_SECONDS = Histogram(
    "longwick_gateway_first_byte_seconds",
    "Seconds from a request for a model to the first byte of its answer",
    ["provider"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
EGRESS = Counter("longwick_egress_connections_total", "Connections that agents asked for", ["outcome"])

CLIS_RUNNING = Gauge("longwick_clis_running", "Agent CLIs that run in this worker")
REDIS_FAILURES = Counter("longwick_redis_failures_total", "Times that Redis did not do what it was asked", ["use"])
SWEEP_AGE_SECONDS = Gauge("longwick_sweep_age_seconds", "Seconds since this worker has last looked for lost runs")
BEATS_LATE = Counter("longwick_beats_late_total", "Beats that came half an interval too late, or later")
SELF_FENCES = Counter("longwick_self_fences_total", "CLIs that their worker killed, as it could not renew their leases")


def count(announced: Iterable[object]) -> None:
    """Count what a unit of work announced, once it is committed."""
    for one in announced:
        if isinstance(one, Batch):
            _count_batch(one)
        elif isinstance(one, Artifact):
            ARTIFACTS_SAVED.labels(one.type).inc()
            ARTIFACT_BYTES_SAVED.labels(one.type).inc(one.size)


def _count_batch(batch: Batch) -> None:
    EVENTS_COMMITTED.inc(batch.last_seq - batch.first_seq + 1)
    if batch.first_seq == 1:
        RUNS_ACCEPTED.labels(json.loads(batch.body)["data"]["kind"]).inc()
    if batch.terminal:
        end = json.loads(batch.body.rpartition("\n")[2])
        error = end["data"].get("error") or {"code": ""}
        RUNS_SETTLED.labels(end["type"].removeprefix("run."), error["code"]).inc()
        if end["data"]["duration_ms"]:
            RUN_SECONDS.observe(end["data"]["duration_ms"] / 1000)


def count_unsettled(db: Db) -> None:
    """Bring `RUNS` up to date."""
    counted = select(Run.kind, Run.status, func.count()).where(Run.status.in_(UNSETTLED)).group_by(Run.kind, Run.status)
    found = {(kind, status): runs for kind, status, runs in db.execute(counted)}
    for kind in RunKind:
        for status in UNSETTLED:
            RUNS.labels(kind, status).set(found.get((kind, status), 0))


def exposition() -> bytes:
    """All metrics of this process, in Prometheus's text format."""
    return prometheus_client.generate_latest()


@contextmanager
def served(port: int) -> Iterator[None]:
    """Show the metrics on a loopback port, for a process that has no other; 0 for not at all."""
    if not port:
        yield
        return
    try:
        server, thread = prometheus_client.start_http_server(port, HOST)
    except OSError as error:
        # Nothing that only watches may keep runs from running.
        log.warning("no metrics can be had, %s:%d cannot be listened on: %s", HOST, port, error.strerror)
        yield
        return
    log.info("metrics are at http://%s:%d/metrics", HOST, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
