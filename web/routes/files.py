"""The files of a thread as a whole: one that is attached, and all of them in an archive."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from longwick import artifacts, models, room, threads
from longwick.database import Db
from longwick.limits import Limits
from web.archive import MEDIA_TYPE, archive
from web.content import disposition
from web.dependencies import TheCaller, TheRecord, TheSettings, TheStorage, ThreadId
from web.openapi import TEXT, Responses, made, responses
from web.schemas import Artifact
from web.upload import FIELD, receive

router = APIRouter(prefix="/threads/{thread_id}", tags=["files"])

BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: BINARY},
                    "required": [FIELD],
                    "additionalProperties": False,
                }
            }
        },
    }
}
_ARCHIVE: Responses = {
    200: {
        "description": "The archive",
        "content": {MEDIA_TYPE: {"schema": BINARY}},
        "headers": {"Content-Disposition": {"schema": TEXT}},
    }
}


@router.post(
    "/files",
    status_code=201,
    openapi_extra=_BODY,
    responses=made(201) | responses(400, 404, 413, 415, 422, 429, 503, 507),
)
async def attach_file(
    request: Request,
    thread_id: ThreadId,
    caller: TheCaller,
    record: TheRecord,
    storage: TheStorage,
    settings: TheSettings,
    response: Response,
) -> Artifact:
    """Attach a file to a thread; one of the same name becomes its next version."""

    usual = Limits.usual(settings)

    def check(db: Db, size: int) -> None:
        threads.get(db, caller.owner, thread_id)
        room.check(db, thread_id, size, usual)

    # Before any of a body is taken that is for nothing.
    await run_in_threadpool(record.read, partial(check, size=0))
    wanted = await receive(request, storage, settings.artifact_bytes)
    await run_in_threadpool(record.read, partial(check, size=wanted.bytes.size))

    def write(db: Db) -> models.Artifact:
        return artifacts.attach(db, caller.owner, thread_id, wanted)

    artifact = await run_in_threadpool(record.write, write)
    response.headers["location"] = f"/api/v1/artifacts/{artifact.id}"
    return Artifact.model_validate(artifact)


@router.get("/artifacts.zip", response_class=Response, responses=_ARCHIVE | responses(404, 503))
def get_archive(thread_id: ThreadId, caller: TheCaller, record: TheRecord, storage: TheStorage) -> Response:
    """The newest version of each file of a thread, in an archive."""

    def read(db: Db) -> tuple[str, list[models.Artifact]]:
        thread = threads.get(db, caller.owner, thread_id)
        return thread.title.replace("/", "-").strip(" .") or thread.id, list(artifacts.newest_of_thread(db, thread.id))

    title, files = record.read(read)
    headers = {"content-disposition": disposition("attachment", f"{title}.zip")}
    return StreamingResponse(archive(storage, files), headers=headers, media_type=MEDIA_TYPE)
