"""Every metric of Longwick, for Prometheus to collect; docs/metrics.md says what each is good for.

As Prometheus has it they belong to the process, and so to this module. None is labelled with what grows without a limit
or says something of anybody: no owners, ids or words.
"""

import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import func, select

from longwick.backlog import IS_FIRST_OF_THREAD
from longwick.database import Db, utc_now
from longwick.events import Batch
from longwick.kinds import UNSETTLED, RunKind, RunStatus
from longwick.models import Artifact, Run, Worker

log = logging.getLogger(__name__)

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
# They would double what is collected, to say when a process began.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it is not annotated

RUNS_ACCEPTED = Counter("longwick_runs_accepted_total", "Runs accepted", ["kind"])
RUNS_SETTLED = Counter("longwick_runs_settled_total", "Runs settled", ["status", "code"])
OLDEST_QUEUED_SECONDS = Gauge(
    "longwick_oldest_queued_seconds", "How old the oldest run is that is next in its thread", ["kind"]
)
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
FIRST_EVENT_SECONDS = Histogram(
    "longwick_run_first_event_seconds",
    "Seconds from a run's acceptance to the first that its agent lets be seen, as it is said and as it is committed",
    ["agent", "point"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
TOKENS = Counter("longwick_tokens_total", "Tokens that settled runs have used", ["agent", "model", "kind"])
COST_USD = Counter("longwick_cost_usd_total", "US dollars that settled runs have cost", ["agent", "model"])
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
PUBLISH_SECONDS = Histogram(
    "longwick_publish_seconds",
    "Seconds from a commit to Redis having its live copy; of those sent together, the oldest's",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
LIVE_COPIES_DROPPED = Counter("longwick_live_copies_dropped_total", "Live copies that Redis did not take")

VIEWERS = Gauge("longwick_viewers", "Open event streams")
VIEWER_LAG_SECONDS = Histogram(
    "longwick_viewer_lag_seconds",
    "Seconds from an event to its being sent to a reader who had all before it",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
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
SWEEPS = Counter("longwick_sweeps_total", "Looks for lost runs", ["outcome"])
LEASES_LOST = Counter(
    "longwick_leases_lost_total", "Leases whose worker was lost, by what became of the run", ["became"]
)
BEATS_LATE = Counter("longwick_beats_late_total", "Beats that came half an interval too late, or later")
SELF_FENCES = Counter("longwick_self_fences_total", "CLIs that their worker killed, as it could not renew their leases")
# A rule sees a counter grow only where it was there before, as 0.
RUNS_SETTLED.labels(RunStatus.FAILED, "internal_error")
for _became in (RunStatus.QUEUED, RunStatus.FAILED, RunStatus.CANCELLED):
    LEASES_LOST.labels(_became)

PARTS = Gauge("longwick_part_up", "Whether what the web tier needs answers it", ["part"])
WORKERS = Gauge("longwick_workers", "Workers that live")
ROOM = Gauge("longwick_room", "Runs that may be hinted or running on the living workers' account", ["lane"])
FREE_BYTES = Gauge("longwick_data_dir_free_bytes", "Bytes that are free where the data dir is")

TOKEN_KINDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
}
"""What an agent says it has used -> the label that counts it; what else it may say is counted nowhere."""
MOST_TOKENS = 10**12


def count(announced: Iterable[object]) -> None:
    """Count what a unit of work announced, once it is committed."""
    for one in announced:
        if isinstance(one, Batch):
            EVENTS_COMMITTED.inc(one.last_seq - one.first_seq + 1)
            if one.first_seq == 1:
                RUNS_ACCEPTED.labels(json.loads(one.body)["data"]["kind"]).inc()
        elif isinstance(one, Artifact):
            ARTIFACTS_SAVED.labels(one.type).inc()
            ARTIFACT_BYTES_SAVED.labels(one.type).inc(one.size)
        elif isinstance(one, Run):
            _count_end(one)


def _count_end(run: Run) -> None:
    RUNS_SETTLED.labels(run.status, run.error_code or "").inc()
    if run.started_at and run.finished_at:
        RUN_SECONDS.observe(max(0, (run.finished_at - run.started_at).total_seconds()))
    for name, used in (run.usage or {}).items():
        # An agent may say anything.
        if name in TOKEN_KINDS and type(used) is int and 0 < used < MOST_TOKENS:
            TOKENS.labels(run.agent, run.model or "", TOKEN_KINDS[name]).inc(used)
    if run.cost_usd:
        COST_USD.labels(run.agent, run.model or "").inc(run.cost_usd)


def observe_first_event(run: Run, point: str) -> None:
    """Note that an attempt has let itself be seen: `said` or `committed`. Only a run's first one is."""
    if run.attempt == 1:
        waited = (utc_now() - run.created_at).total_seconds()
        FIRST_EVENT_SECONDS.labels(run.agent, point).observe(max(0, waited))


def count_unsettled(db: Db) -> None:
    """Bring `RUNS` and `OLDEST_QUEUED_SECONDS` up to date."""
    counted = select(Run.kind, Run.status, func.count()).where(Run.status.in_(UNSETTLED)).group_by(Run.kind, Run.status)
    found = {(kind, status): runs for kind, status, runs in db.execute(counted)}
    next_ones = select(Run.kind, func.min(Run.created_at)).where(
        Run.status == RunStatus.QUEUED, Run.cancel_requested_at.is_(None), IS_FIRST_OF_THREAD
    )
    since = {row[0]: row[1] for row in db.execute(next_ones.group_by(Run.kind))}
    now = utc_now()
    for kind in RunKind:
        OLDEST_QUEUED_SECONDS.labels(kind).set(max(0, (now - since.get(kind, now)).total_seconds()))
        for status in UNSETTLED:
            RUNS.labels(kind, status).set(found.get((kind, status), 0))


def forget_unsettled() -> None:
    """No figure is better than one that was true at some time."""
    RUNS.clear()
    OLDEST_QUEUED_SECONDS.clear()


def show_parts(up: Mapping[str, bool], workers: Sequence[Worker] | None) -> None:
    """Bring what is known of the other parts up to date; None where nobody can tell which workers live."""
    for part, answers in up.items():
        PARTS.labels(part).set(answers)
    WORKERS.set(math.nan if workers is None else len(workers))
    for lane in RunKind:
        room = [worker.capacity.get(lane.value, 0) for worker in workers or ()]
        ROOM.labels(lane).set(math.nan if workers is None else sum(room))


def watch_space(folder: Path) -> None:
    """Show how much is free where a folder is, at each scrape."""

    def free() -> float:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return math.nan

    FREE_BYTES.set_function(free)


def exposition() -> bytes:
    """All metrics of this process, in Prometheus's text format."""
    return prometheus_client.generate_latest()


@contextmanager
def served(host: str, port: int) -> Iterator[None]:
    """Show the metrics at an address and port, for a process that has no other; port 0 for not at all."""
    if not port:
        yield
        return
    try:
        server, thread = prometheus_client.start_http_server(port, host)
    except OSError as error:
        # Nothing that only watches may keep runs from running.
        log.warning("no metrics can be had, %s:%d cannot be listened on: %s", host, port, error.strerror)
        yield
        return
    log.info("metrics are at http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
