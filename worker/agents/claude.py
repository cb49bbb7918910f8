"""Claude Code, one process a turn: how it is started, and what is written to it.

It keeps nothing: the thread's history is given to it as a transcript made from the record, and it writes none.
"""

import base64
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longwick.approvals import Decision
from longwick.models import JsonObject
from longwick.profiles import MCP_NAME, Profile
from longwick.transcript import Block, Transcript
from worker.agents import Ask, Launch, Meant, Turn
from worker.agents.claude_stream import ClaudeStream
from worker.agents.continuing import CHAT_PROMPT, continuation, fallback_input
from worker.agents.lines import line_of

TRANSCRIPT = "thread.jsonl"
CAREFUL = {
    # Its own tries, before ours or the user's.
    "CLAUDE_CODE_MAX_RETRIES": "3",
    "API_TIMEOUT_MS": "120000",
    # A message that names @/etc/passwd is text; without this it is read and sent along.
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    # It would give its result, and go on when they are done.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    # Else it begins its turn without the tools of a server that takes more than 2 s to answer.
    "MCP_CONNECTION_NONBLOCKING": "0",
}


class Claude:
    """One turn of it."""

    def __init__(self, profile: Profile, turn: Turn) -> None:
        self._profile = profile
        self._turn = turn
        self._stream = ClaudeStream(turn.attempt, wants_mcp=turn.mcp_token is not None)

    def launch(self, work: Path, home: Path) -> Launch:
        argv = [*self._profile.command, *command_line(self._profile, self._turn)]
        if history := list(transcript(self._turn)):
            path = home / TRANSCRIPT
            path.write_text("".join(json.dumps(line) + "\n" for line in history))
            argv.append(f"--resume={path}")
        env = {"CLAUDE_CONFIG_DIR": str(home / ".claude"), **CAREFUL, **models_by_size(self._profile, self._turn)}
        return Launch(argv, env, self._opening())

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Meant]:
        return self._stream.translate(line, shown)

    def interrupt(self) -> bytes:
        return line_of(
            {"type": "control_request", "request_id": f"stop-{uuid.uuid4().hex}", "request": {"subtype": "interrupt"}}
        )

    def steer(self, text: str) -> bytes | None:
        # While it writes it would answer in a turn of its own, which begins when this one has ended already.
        return _message(text) if self._stream.takes_more() else None

    def answer(self, ask: Ask, decision: Decision) -> bytes:
        said: JsonObject = {"behavior": "allow", "updatedInput": ask.input}
        if not decision.allowed:
            said = {"behavior": "deny", "message": decision.words}
        answer = {"subtype": "success", "request_id": ask.request_id, "response": said}
        return line_of({"type": "control_response", "response": answer})

    def _opening(self) -> bytes:
        turn = self._turn
        if turn.done:
            return _message(continuation(turn.decisions))
        if not turn.pictures:
            return _message(turn.text)
        pictures: list[JsonObject] = [
            {
                "type": "image",
                "source": {
                    "type": "base64",
                    "media_type": picture.media_type,
                    "data": base64.b64encode(picture.data).decode(),
                },
            }
            for picture in turn.pictures
        ]
        return _message([*pictures, {"type": "text", "text": _as_text(turn.text)}])


def command_line(profile: Profile, turn: Turn) -> list[str]:
    """Its arguments: everything that it could find by itself is turned off, and what it may do is listed."""
    allowed = [*([f"mcp__{MCP_NAME}"] if turn.mcp_token else []), *profile.tools]
    servers: JsonObject = {
        name: {"type": "http", "url": server.url, "headers": server.headers}
        for name, server in profile.mcp_servers.items()
    }
    if turn.mcp_token:
        # Named, not written out: a command line can be read by everybody on the machine.
        servers[MCP_NAME] = {
            "type": "http",
            "url": "${LONGWICK_MCP_URL}",
            "headers": {"Authorization": "Bearer ${LONGWICK_MCP_TOKEN}"},
            "alwaysLoad": True,
        }
    argv = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    argv += ["--include-partial-messages", "--no-session-persistence", "--disable-slash-commands"]
    argv += ["--setting-sources=", "--strict-mcp-config", "--mcp-config", json.dumps({"mcpServers": servers})]
    if profile.kind == "chat":
        argv += ["--tools", "", "--permission-mode", "dontAsk"]
        argv += ["--system-prompt", profile.system_prompt or CHAT_PROMPT]
    else:
        argv += ["--permission-mode", "default", "--permission-prompt-tool", "stdio"]
        if profile.system_prompt:
            argv += ["--append-system-prompt", profile.system_prompt]
    if allowed:
        argv += ["--allowedTools", ",".join(allowed)]
    if model := turn.model or next(iter(profile.models), None):
        argv += ["--model", model]
    if profile.output_schema:
        argv += ["--json-schema", json.dumps(profile.output_schema)]
    if profile.max_turns is not None:
        argv += ["--max-turns", str(profile.max_turns)]
    limits = [limit for limit in (turn.max_cost_usd, profile.max_cost_usd) if limit is not None]
    if limits:
        argv += ["--max-budget-usd", str(min(limits))]
    return argv


def models_by_size(profile: Profile, turn: Turn) -> dict[str, str]:
    """What it takes for a model that it, or one of its sub-agents, calls only large or small: one that it may ask."""
    if not profile.models:
        return {}
    own = turn.model or profile.models[0]
    small = profile.small_model or own
    meant = {
        size: next((model for model in profile.asked_models if size in model), small if size == "haiku" else own)
        for size in ("haiku", "sonnet", "opus", "fable")
    }
    if profile.small_model:
        meant["haiku"] = small
    named = {f"ANTHROPIC_DEFAULT_{size.upper()}_MODEL": model for size, model in meant.items()}
    return named | {"ANTHROPIC_SMALL_FAST_MODEL": meant["haiku"]}


def transcript(turn: Turn) -> Iterator[JsonObject]:
    """The lines of a transcript file that Claude Code takes for its own: each names the one before it."""
    session, parent = str(uuid.uuid4()), None
    for role, content in _messages(turn):
        line = str(uuid.uuid4())
        message: JsonObject = {"role": role, "content": content}
        if role == "assistant":
            message |= {
                "id": f"msg_{line.replace('-', '')}",
                "type": "message",
                "model": turn.model or "claude",
                "stop_reason": "tool_use" if content[-1]["type"] == "tool_use" else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        yield {
            "type": role,
            "uuid": line,
            "parentUuid": parent,
            "sessionId": session,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "message": message,
        }
        parent = line


def _messages(turn: Turn) -> Iterator[tuple[str, Any]]:
    for said in turn.history:
        # An empty text is refused by the provider.
        text = said.text or "(nothing)"
        yield said.role, [{"type": "text", "text": text}] if said.role == "assistant" else text
    if turn.done:
        yield "user", turn.text
        yield from _done(turn.done)


def _done(done: Sequence[Block]) -> Iterator[tuple[str, Any]]:
    """What this very turn has come to before, as the messages of a conversation with tools."""
    for block in done:
        if block.tool is None:
            yield ("user", block.text) if block.by_user else ("assistant", [{"type": "text", "text": block.text}])
            continue
        call = block.tool_call_id
        yield "assistant", [{"type": "tool_use", "id": call, "name": block.tool, "input": fallback_input(block)}]
        result = {"type": "tool_result", "tool_use_id": call, "content": block.text, "is_error": block.is_error}
        yield "user", [result]


def _message(content: str | list[JsonObject]) -> bytes:
    said = _as_text(content) if isinstance(content, str) else content
    # Newer ones take a message that says so as text, whatever it looks like.
    return line_of({"type": "user", "message": {"role": "user", "content": said}, "client_composed": True})


def _as_text(text: str) -> str:
    """Words that no version takes for a command of its own."""
    return f"\n{text}" if text.lstrip().startswith("/") or not text.strip() else text
