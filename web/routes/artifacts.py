"""Files that agents saved: what is known of them, and their bytes."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from longwick import artifacts
from web.content import content, framed
from web.dependencies import ArtifactId, TheCaller, TheRecord, TheStorage
from web.openapi import responses, stored
from web.schemas import Artifact

router = APIRouter(prefix="/artifacts", tags=["artifacts"])

ANSWERS = stored({"*/*": {"schema": {"type": "string", "format": "binary"}}})


@router.get("/{artifact_id}", responses=responses(404, 503))
def get_artifact(artifact_id: ArtifactId, caller: TheCaller, record: TheRecord) -> Artifact:
    """What is known of a file."""
    return Artifact.model_validate(record.read(lambda db: artifacts.get(db, caller.owner, artifact_id)))


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get("/{artifact_id}/content", response_class=Response, responses=ANSWERS | responses(404, 416, 422, 503))
def get_content(
    request: Request,
    artifact_id: ArtifactId,
    caller: TheCaller,
    record: TheRecord,
    storage: TheStorage,
    download: Annotated[bool, Query(description="Have a browser save it, whatever it is")] = False,
) -> Response:
    """The bytes of a file. A browser shows a few safe types, and saves all others."""
    artifact = record.read(lambda db: artifacts.get(db, caller.owner, artifact_id))
    return content(
        request,
        storage,
        sha256=artifact.sha256,
        size=artifact.size,
        media_type=artifact.media_type,
        name=artifact.name,
        download=download,
    )


@router.get("/{artifact_id}/preview", response_class=Response, responses=ANSWERS | responses(404, 416, 422, 503))
def get_preview(
    request: Request, artifact_id: ArtifactId, caller: TheCaller, record: TheRecord, storage: TheStorage
) -> Response:
    """The bytes of a file that may act (HTML, SVG) or needs a viewer (PDF), for a frame of a page of ours alone.

    It runs without an origin, and reaches neither the page nor the network.
    """
    artifact = record.read(lambda db: artifacts.get(db, caller.owner, artifact_id))
    answer = content(
        request,
        storage,
        sha256=artifact.sha256,
        size=artifact.size,
        media_type=artifact.media_type,
        name=artifact.name,
    )
    return framed(answer, artifact.media_type, in_frame=request.headers.get("sec-fetch-dest") == "iframe")
