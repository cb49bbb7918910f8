"""How the tier is: whether it lives, and whether all it needs does. At the root, for those who run it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from longwick import metrics
from longwick.models import JsonObject, Worker
from web.dependencies import TheChecks
from web.schemas import Alive, Health, Parts

router = APIRouter(tags=["health"])

CHECK_SECONDS = 1.5
OK = "ok"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Alive:
    """Whether this process answers; it asks nothing else."""
    return Alive()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Health, "description": "The record does not answer"}})
async def readyz(checks: TheChecks, response: Response) -> Health:
    """How all that is needed is. Without the record nothing works; without the rest, runs are accepted and wait."""
    record, redis, mcp = await asyncio.gather(
        checks.record.answer(CHECK_SECONDS),
        checks.redis.answer(CHECK_SECONDS),
        checks.mcp.answer(CHECK_SECONDS),
        return_exceptions=True,
    )
    parts = Parts(record=_text(record), redis=_text(redis), worker=_of_workers(record), mcp=_text(mcp))
    if isinstance(record, BaseException):
        response.status_code = 503
        return Health(status="unavailable", checks=parts, isolation={})
    well = all(text == OK for text in parts.model_dump().values())
    return Health(status="ok" if well else "degraded", checks=parts, isolation=_isolation(record))


@router.get("/metrics", response_class=PlainTextResponse)
async def scrape(checks: TheChecks) -> Response:
    """What Prometheus collects from this process."""
    record, redis, mcp, unsettled = await asyncio.gather(
        checks.record.answer(CHECK_SECONDS),
        checks.redis.answer(CHECK_SECONDS),
        checks.mcp.answer(CHECK_SECONDS),
        checks.unsettled.answer(CHECK_SECONDS),
        return_exceptions=True,
    )
    found = {"record": record, "redis": redis, "mcp": mcp}
    workers = None if isinstance(record, BaseException) else record
    metrics.show_parts({part: not isinstance(how, BaseException) for part, how in found.items()}, workers)
    if isinstance(unsettled, BaseException):
        metrics.forget_unsettled()
    return Response(metrics.exposition(), headers={"content-type": metrics.CONTENT_TYPE})


def _of_workers(record: Sequence[Worker] | BaseException) -> str:
    if isinstance(record, BaseException):
        return "not known while the record does not answer"
    return OK if record else "no worker is alive: runs are accepted, and wait for one"


def _isolation(workers: Sequence[Worker]) -> dict[str, str]:
    # Each says the same of all its agents.
    told: dict[str, JsonObject] = {worker.id: next(iter(worker.agents.values()), {}) for worker in workers}
    return {worker: str(about.get("isolation", "not told")) for worker, about in told.items()}


def _text(found: Any) -> str:
    match found:
        case OSError():
            return f"does not answer: {found.strerror or found}"
        case BaseException():
            return "does not answer"
        case _:
            return OK
