"""What agents can call. Each call is one unit of work in the right of its session, which alone names run and thread."""

import base64
import functools
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from longwick import artifacts, events, metrics, room, seams, sessions, traces
from longwick.artifacts import Quota, Save
from longwick.database import Database, Db
from longwick.errors import Invalid, LongwickError, TooLarge
from longwick.events import Event, EventType
from longwick.kinds import ArtifactType
from longwick.limits import Limits
from longwick.settings import Settings
from longwick.storage import Storage, describe
from longwick.text import clean, shorten
from mcp_server.auth import current_session, current_traceparent

log = logging.getLogger(__name__)

READ_BYTES = 2**20
LISTED_FILES = 200
MESSAGE_CHARACTERS = 1000
CALL_ID_CHARACTERS = 255
LARGEST_INTEGER = 2**31 - 1
# Where a client names the call: Claude Code, Codex, and agents that were written for us.
CALL_ID_NAMES = ("claudecode/toolUseId", "callId", "longwick/callId")

ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class SavedFile(BaseModel):
    """One version of a file, as the HTTP API shows it."""

    id: str
    thread_id: str
    run_id: str | None
    type: str
    name: str
    version: int
    media_type: str
    size: int
    sha256: str
    created_at: str


class ListedFile(BaseModel, from_attributes=True):
    """What a model needs to choose a file. Some CLIs show it this in place of the text, so it is kept short."""

    name: str
    version: int
    media_type: str
    size: int
    type: ArtifactType


class ListedFiles(BaseModel):
    """The newest version of each file; `omitted` counts those that were saved earlier and are not listed."""

    artifacts: list[ListedFile]
    omitted: int


class Tools:
    """The tools, with the parts that they work on."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._settings = settings
        self._quota = Quota(settings.artifacts_per_run, settings.artifact_bytes_per_run)
        self._limits = Limits.usual(settings)
        self._database = database
        self._storage = storage

    def offered(self) -> list[Tool]:
        """All tools, for the server."""
        return [
            _tool(self.save_artifact, ADDS),
            _tool(self.list_artifacts, READS),
            _tool(self.read_artifact, READS),
            _tool(self.report_progress, ADDS),
        ]

    def save_artifact(
        self,
        ctx: Context[Any, Any],
        name: Annotated[str, Field(description="A relative name, like report.md or charts/sales.csv")],
        content: Annotated[str, Field(description="The whole content of the file")],
        media_type: Annotated[
            str | None, Field(description="Like text/markdown; if left out, the name's ending decides")
        ] = None,
        encoding: Annotated[
            Literal["utf-8", "base64"], Field(description="How `content` is written: base64 for what is not text")
        ] = "utf-8",
    ) -> Annotated[CallToolResult, SavedFile]:
        """Save a file for the user, who can open and download it in the chat.

        A name that was saved before gets a new version; older versions are kept.
        """
        artifacts.check_name(name)
        data = _decoded(content, encoding)
        media_type = artifacts.check_media_type(media_type, name, text=encoding == "utf-8")
        session = current_session()
        wanted = Save(name, media_type, describe(data), _call_id(ctx))

        def check(db: Db) -> None:
            if artifacts.saved_before(db, session, wanted, self._quota) is None:
                room.check(db, session.thread_id, wanted.bytes.size, self._limits)

        self._database.read(check)
        self._storage.put([data], limit=self._settings.artifact_bytes)
        artifact = self._database.write(lambda db: artifacts.save(db, session.id, wanted, self._quota))
        seams.passed("artifact committed")
        log.info("saved %s (%d bytes)", artifact.id, artifact.size)
        saved = artifacts.to_json(artifact)
        marker = json.dumps({field: saved[field] for field in ("id", "name", "version")}, separators=(",", ":"))
        # The first bar ends the JSON, also for a reader that only looks for a bar.
        marker = marker.replace("|", "\\u007c")
        words = f"ARTIFACT_CREATED:{marker}|Saved {artifact.name} (version {artifact.version})."
        return _answer(words, structured=saved)

    def list_artifacts(self) -> Annotated[CallToolResult, ListedFiles]:
        """List the files of this conversation, those of earlier turns and those that the user attached as well.

        Only the newest version of each is listed, the file that was saved last first.
        """
        thread_id = current_session().thread_id
        files = self._database.read(lambda db: artifacts.newest_of_thread(db, thread_id))
        listed = [ListedFile.model_validate(file) for file in files[:LISTED_FILES]]
        omitted = len(files) - len(listed)
        lines = [
            f"{file.name} (version {file.version}, {file.media_type}, {file.size} bytes, {file.type})"
            for file in listed
        ] or ["There are no files in this conversation yet."]
        if omitted:
            lines.append(f"… and {omitted} more that were saved earlier")
        structured = ListedFiles(artifacts=listed, omitted=omitted)
        return _answer("\n".join(lines), structured=structured.model_dump(mode="json"))

    def read_artifact(
        self,
        name: Annotated[str, Field(description="The name, as list_artifacts gives it")],
        version: Annotated[
            int | None, Field(description="If left out, the newest version", ge=1, le=LARGEST_INTEGER)
        ] = None,
    ) -> CallToolResult:
        """Read a file of this conversation: text as it is, anything else as base64 after a line that says so."""
        artifacts.check_name(name)
        thread_id = current_session().thread_id
        file = self._database.read(lambda db: artifacts.find_version(db, thread_id, name, version))
        which = f"{file.name} (version {file.version}, {file.media_type})"
        if file.size > READ_BYTES:
            raise TooLarge(f"{which} has {file.size} bytes, and at most {READ_BYTES} can be read")
        with self._storage.open(file.sha256) as stored:
            data = stored.read()
        if not data:
            return _answer(f"{which} is empty.")
        try:
            return _answer(data.decode())
        except UnicodeDecodeError:
            note = f"{which} is not text; its {len(data)} bytes follow as base64."
            return _answer(note, base64.b64encode(data).decode())

    def report_progress(
        self,
        message: Annotated[str, Field(description="What you are doing now, in a few words")],
        fraction: Annotated[
            float | None, Field(description="How much of the whole work is done, from 0 to 1", ge=0, le=1)
        ] = None,
    ) -> CallToolResult:
        """Tell the user how far you are; for work that takes more than a minute."""
        message = shorten(clean(message).strip(), MESSAGE_CHARACTERS)
        if not message:
            raise Invalid("the message is empty")
        session_id = current_session().id

        def report(db: Db) -> None:
            session = sessions.check(db, session_id)
            progress = Event(EventType.PROGRESS, {"message": message, "fraction": fraction})
            events.append(db, session.run_id, session.attempt, [progress])

        self._database.write(report)
        return _answer("The user sees it.")


def _tool(function: Callable[..., CallToolResult], hints: ToolAnnotations) -> Tool:
    """The tool of a function: an argument that it does not have is refused, and our errors are told in words.

    Of any other exception the package tells the model nothing but the tool's name, and logs the rest.
    """

    @functools.wraps(function)
    def in_words(*args: Any, **kwargs: Any) -> CallToolResult:
        outcome = "internal_error"
        with traces.span(f"tool {function.__name__}", parent=current_traceparent()):
            try:
                answer = function(*args, **kwargs)
                outcome = "ok"
                return answer
            except LongwickError as error:
                outcome = error.code
                log.info("%s was refused: %s", function.__name__, error.code)
                raise ToolError(f"{error.code}: {error.detail}") from error
            finally:
                traces.note(outcome=outcome)
                metrics.MCP_CALLS.labels(function.__name__, outcome).inc()

    tool = Tool.from_function(in_words, description=inspect.getdoc(function), annotations=hints)
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema()
    return tool


def _answer(*texts: str, structured: dict[str, Any] | None = None) -> CallToolResult:
    content = [TextContent(type="text", text=text) for text in texts]
    return CallToolResult(content=list(content), structured_content=structured)


def _decoded(content: str, encoding: str) -> bytes:
    """The bytes that `content` stands for."""
    if encoding == "base64":
        try:
            return base64.b64decode(content, validate=True)
        except ValueError as error:
            words = "the content is not base64 (standard alphabet, with padding, without line breaks)"
            raise Invalid(words, code="bad_base64", param="content") from error
    try:
        return content.encode()
    except UnicodeEncodeError:
        return clean(content).encode()


def _call_id(ctx: Context[Any, Any]) -> str | None:
    """The client's own name of this call, by which a repeated one is known."""
    meta: Mapping[str, object] = {**(ctx.request_context.meta or {})}
    for name in CALL_ID_NAMES:
        value = meta.get(name)
        if isinstance(value, str) and 0 < len(value) <= CALL_ID_CHARACTERS:
            return clean(value)
    return None
