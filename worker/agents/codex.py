"""Codex, many turns in one app server: how that is started, and what one turn says to it.

Each turn is a thread of its own there, which ends with it: the history is given to it from the record.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from longwick.approvals import Decision
from longwick.models import JsonObject
from longwick.profiles import MCP_NAME, Profile
from longwick.providers import PROVIDERS
from longwick.transcript import Block, Transcript
from worker.agents import Ask, Launch, Meant, Turn
from worker.agents.codex_stream import CodexStream
from worker.agents.continuing import CHAT_PROMPT, continuation, fallback_input
from worker.agents.lines import line_of

PROVIDER = "longwick"
OFF = (
    *("multi_agent", "goals", "image_generation", "plugins", "apps", "sleep_tool", "skill_search", "browser_use"),
    *("computer_use", "in_app_browser", "tool_suggest", "hooks", "shell_snapshot"),
    # It would wait for ever for a provider that is not there.
    "unbounded_connection_retries",
)
CHAT_OFF = ("shell_tool", "unified_exec", "view_image")
RETRIES = 3
SILENCE_MS = 120_000


class Codex:
    """One turn of it."""

    def __init__(self, profile: Profile, turn: Turn) -> None:
        self._profile = profile
        self._turn = turn
        self._prefix = f"{turn.run_id}.{turn.attempt}"
        self._requests = 0
        self._stream = CodexStream(turn.attempt)
        self._waiting: dict[str, str] = {}
        """What was asked of the server, by the id of the request."""
        self._work = Path()

    def launch(self, work: Path, home: Path) -> Launch:
        self._work = work
        argv = [*self._profile.command, *command_line(self._profile)]
        hello = {"id": "hello", "method": "initialize", "params": HELLO}
        greeting = line_of(hello) + line_of({"method": "initialized"})
        opening = self._ask("thread/start", self._thread())
        if self._profile.kind == "coding":
            # With files and a shell, turns that share a process would reach one another's.
            (home / ".codex").mkdir()
            return Launch(argv, {"CODEX_HOME": str(home / ".codex")}, greeting + opening)
        return Launch(argv, {}, opening, shared=True, greeting=greeting, key=self._prefix)

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Meant]:
        yield from self._stream.translate(line, shown, self)

    def interrupt(self) -> bytes:
        turn = self._stream.turn
        return self._ask("turn/interrupt", {"threadId": self._stream.thread, "turnId": turn}) if turn else b""

    def steer(self, text: str) -> bytes | None:
        stream, said = self._stream, [_text(text)]
        if stream.turn:
            return self._ask("turn/steer", {"threadId": stream.thread, "expectedTurnId": stream.turn, "input": said})
        return self._ask("turn/start", {"threadId": stream.thread, "input": said}) if stream.at_rest else None

    def answer(self, ask: Ask, decision: Decision) -> bytes:
        verdict = {"decision": "accept" if decision.allowed else "decline"}
        return line_of({"id": json.loads(ask.request_id), "result": verdict})

    def asked_for(self, request_id: object) -> str | None:
        """The method of a request of ours that is answered now."""
        return self._waiting.pop(str(request_id), None)

    def begin(self, thread: str) -> Iterator[bytes]:
        """What to say once the thread is there: what was said before, and then the message."""
        items = [*_history(self._turn)]
        if items:
            yield self._ask("thread/inject_items", {"threadId": thread, "items": items})
        schema = {"outputSchema": self._profile.output_schema} if self._profile.output_schema else {}
        yield self._ask("turn/start", {"threadId": thread, "input": self._input(), **schema})

    def _input(self) -> list[JsonObject]:
        turn = self._turn
        if turn.done:
            return [_text(continuation(turn.decisions))]
        pictures = [
            f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}" for picture in turn.pictures
        ]
        return [*({"type": "image", "url": url} for url in pictures), _text(turn.text)]

    def _thread(self) -> JsonObject:
        profile, turn = self._profile, self._turn
        servers: dict[str, JsonObject] = {
            name: {"url": server.url, "http_headers": _filled(server.headers, profile.environ)}
            for name, server in profile.mcp_servers.items()
        }
        if turn.mcp_token:
            servers[MCP_NAME] = {
                "url": turn.mcp_url,
                "http_headers": {"Authorization": f"Bearer {turn.mcp_token}"},
                # Without our tools it would go on without a word.
                "required": True,
            }
        config = {
            f"mcp_servers.{name}.{key}": value
            for name, server in servers.items()
            for key, value in {**server, "default_tools_approval_mode": "approve"}.items()
        }
        # Whatever its shell starts is found by this, and ended with the turn.
        config |= {f"model_providers.{PROVIDER}.{name}": value for name, value in self._provider().items()}
        config["shell_environment_policy.set"] = {"LONGWICK_RUN_ID": turn.run_id}
        coding = profile.kind == "coding"
        thread: JsonObject = {
            "cwd": str(self._work),
            "model": turn.model or next(iter(profile.models), None),
            "modelProvider": PROVIDER,
            "approvalPolicy": "untrusted" if coding else "never",
            "sandbox": "danger-full-access" if coding else "read-only",
            "ephemeral": True,
            "config": config,
        }
        if coding:
            return thread | {"developerInstructions": profile.system_prompt or None}
        return thread | {"baseInstructions": profile.system_prompt or CHAT_PROMPT}

    def _provider(self) -> JsonObject:
        """Where this turn has the model asked: with a pass of its own, which no other turn of the server gets."""
        given = PROVIDERS["openai"].given(self._turn.gateway_url or "", self._turn.gateway_token)
        return {
            "name": PROVIDER,
            "base_url": given["OPENAI_BASE_URL"],
            "experimental_bearer_token": given["OPENAI_API_KEY"],
            "wire_api": "responses",
            "request_max_retries": RETRIES,
            "stream_max_retries": RETRIES,
            "stream_idle_timeout_ms": SILENCE_MS,
        }

    def _ask(self, method: str, params: JsonObject) -> bytes:
        self._requests += 1
        request_id = f"{self._prefix}:{self._requests}"
        self._waiting[request_id] = method
        return line_of({"id": request_id, "method": method, "params": params})


HELLO: JsonObject = {
    "clientInfo": {"name": "longwick", "title": "Longwick", "version": "1"},
    "capabilities": {"experimentalApi": True},
}


def command_line(profile: Profile) -> list[str]:
    """The arguments of an app server, the same for all turns of a profile."""
    settings = ['web_search="disabled"']
    off = [*OFF, *(CHAT_OFF if profile.kind == "chat" else ())]
    return [
        "app-server",
        *(word for setting in settings for word in ("-c", setting)),
        *(word for feature in off for word in ("--disable", feature)),
    ]


def _history(turn: Turn) -> Iterator[JsonObject]:
    """Earlier messages, and what this very turn has come to before, as the items of the Responses API."""
    for said in turn.history:
        yield _said(said.role, said.text or "(nothing)")
    if turn.done:
        yield _said("user", turn.text)
        yield from _done(turn.done)


def _done(done: Sequence[Block]) -> Iterator[JsonObject]:
    for block in done:
        if block.tool is None:
            yield _said("user" if block.by_user else "assistant", block.text)
            continue
        call = block.tool_call_id
        arguments = json.dumps(fallback_input(block))
        yield {"type": "function_call", "call_id": call, "name": block.tool, "arguments": arguments}
        yield {"type": "function_call_output", "call_id": call, "output": block.text}


def _said(role: str, text: str) -> JsonObject:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _text(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _filled(headers: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The headers with `${NAME}` replaced by the variables of the profile."""
    filled = {}
    for name, value in headers.items():
        for variable, content in environ.items():
            value = value.replace(f"${{{variable}}}", content)
        filled[name] = value
    return filled
