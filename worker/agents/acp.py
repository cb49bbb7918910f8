"""Any agent that speaks the Agent Client Protocol, version 1, one process a turn: what is written to it, and when.

The protocol has no place for a history, for instructions or for a list of allowed tools: the first two come as text
before the user's message, and what the agent asks leave for is given at once only where it is ours, or listed.
"""

import base64
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from longwick.approvals import Decision
from longwick.events import notice
from longwick.models import JsonObject
from longwick.profiles import MCP_NAME, Profile
from longwick.text import shorten
from longwick.transcript import Block, Transcript
from worker.agents import Ask, End, Launch, Meant, Reply, Turn, asking_environ
from worker.agents.acp_end import end_of, failure_of
from worker.agents.acp_stream import AcpStream
from worker.agents.continuing import CHAT_PROMPT, continuation
from worker.agents.lines import line_of, parse_object, understand

VERSION = 1
AUTH_REQUIRED = -32000
NOT_OFFERED = {"code": -32601, "message": "Longwick does not offer this."}
REACH_SECONDS = 2.0
CAREFUL = {
    # Where it is Claude Code underneath, a message that names @/etc/passwd is text.
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    # In a folder that it does not trust, Gemini CLI leaves out the tools that it is given, without a word.
    "GEMINI_CLI_TRUST_WORKSPACE": "true",
    # It would start itself a second time, to be given more memory, which takes as long again.
    "GEMINI_CLI_NO_RELAUNCH": "true",
}


class Acp:
    """One turn of it. The id of each request is the name of the step."""

    def __init__(self, profile: Profile, turn: Turn) -> None:
        self._profile = profile
        self._turn = turn
        self._stream = AcpStream(turn.attempt)
        self._work = Path()
        self._session = ""
        self._sees = False
        self._logins: list[str] = []
        self._denied = False
        self._asked: dict[str, JsonObject] = {}
        """The requests for leave that it waits to have answered, by their ids."""

    def launch(self, work: Path, home: Path) -> Launch:
        self._work, self._stream.work = work, str(work)
        client = {"name": "longwick", "title": "Longwick", "version": "1"}
        hello = _request("initialize", protocolVersion=VERSION, clientCapabilities={}, clientInfo=client)
        return Launch(self._profile.command, CAREFUL, hello)

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Meant]:
        return understand(line, parse_object(line), shown, lambda said: self._mean(said, shown))

    def interrupt(self) -> bytes:
        if not self._session:
            return b""
        asked, self._asked = list(self._asked.values()), {}
        cancelled = [_answer(each, {"outcome": {"outcome": "cancelled"}}) for each in asked]
        return b"".join([_notice("session/cancel", sessionId=self._session), *cancelled])

    def steer(self, text: str) -> bytes | None:
        return None

    def answer(self, ask: Ask, decision: Decision) -> bytes:
        asked = self._asked.pop(ask.request_id, None)
        self._denied |= not decision.allowed
        return _decided(asked, allowed=decision.allowed) if asked else b""

    def _mean(self, said: JsonObject, shown: Transcript) -> Iterator[Meant]:
        match said:
            case {"method": "session/update", "params": {"update": update}}:
                yield from self._stream.update(update, shown)
            case {"method": "session/request_permission", "id": _}:
                yield from self._permission(said, shown)
            case {"method": _, "id": number}:
                yield Reply(line_of({"jsonrpc": "2.0", "id": number, "error": NOT_OFFERED}))
            case {"method": _}:
                # What the protocol does not know, an agent may announce as it likes.
                return
            case {"id": str(step), "result": result}:
                yield from self._done(step, result or {})
            case {"id": str(step), "error": error}:
                yield from self._failed(step, error, shown)
            case _:
                yield notice("info", "unknown_message", f"The agent sent {shorten(json.dumps(said))}")

    def _done(self, step: str, result: JsonObject) -> Iterator[Meant]:
        """The next step, after one that went well."""
        match step:
            case "initialize":
                offers = result.get("agentCapabilities") or {}
                self._sees = bool((offers.get("promptCapabilities") or {}).get("image"))
                self._logins = [method["id"] for method in result.get("authMethods") or []]
                reason = self._out_of_reach(offers.get("mcpCapabilities") or {})
                # Later it would go on without a word, and without our tools.
                yield _end("mcp_unavailable", reason) if reason else Reply(self._new_session())
            case "authenticate":
                yield Reply(self._new_session())
            case "session/new":
                self._session = result["sessionId"]
                chosen = self._choose_model(result)
                yield from [Reply(chosen)] if chosen else self._begin()
            case "model":
                yield from self._begin()
            case "session/prompt":
                yield from self._stream.used(result)
                yield end_of(result, denied=self._denied)

    def _failed(self, step: str, error: JsonObject, shown: Transcript) -> Iterator[Meant]:
        words = str(error.get("message") or "it gives no reason")
        barred = step == "authenticate" or error.get("code") == AUTH_REQUIRED
        if step == "session/new" and barred and (way := self._login()):
            yield Reply(_request("authenticate", methodId=way))
        elif step != "session/prompt" and barred:
            how = "give its profile a `provider`, or a key with `pass_env`"
            yield _end("agent_unavailable", f"The agent is not logged in ({words}): {how}.")
        elif step == "session/prompt":
            yield from self._stream.withdraw(error, shown)
            yield failure_of(error)
        else:
            yield _end("agent_error", f"The agent refuses the step {step!r}: {words}")

    def _login(self) -> str | None:
        """The first way to log in that is named after a variable that the agent has; it is tried once."""
        has = self._profile.environ | asking_environ(self._profile, self._turn)
        found = next((way for way in self._logins if has.get(way.upper().replace("-", "_"))), None)
        self._logins = []
        return found

    def _permission(self, asked: JsonObject, shown: Transcript) -> Iterator[Meant]:
        call = asked["params"]["toolCall"]
        yield from self._stream.tool(call, shown, asked=True)
        name, given = self._stream.known(call["toolCallId"])
        if re.fullmatch(rf"mcp__{MCP_NAME}__\w+", name) or name in self._profile.tools:
            yield Reply(_decided(asked, allowed=True))
            return
        self._asked[json.dumps(asked["id"])] = asked
        yield Ask(json.dumps(asked["id"]), name, given, call["toolCallId"])

    def _out_of_reach(self, offers: JsonObject) -> str | None:
        """Why it cannot reach our tools. Whether it has, no agent tells."""
        if not (self._turn.mcp_url and self._turn.mcp_token):
            return None
        if not offers.get("http"):
            return "The agent cannot be given tools over HTTP, as Longwick's are."
        place = urlsplit(self._turn.mcp_near or self._turn.mcp_url)
        try:
            socket.create_connection((place.hostname or "", place.port or 80), REACH_SECONDS).close()
        except OSError as error:
            return f"Longwick's tools are out of reach ({error.strerror or error})."
        return None

    def _new_session(self) -> bytes:
        servers = [_server(name, server.url, server.headers) for name, server in self._profile.mcp_servers.items()]
        if self._turn.mcp_url and self._turn.mcp_token:
            bearer = {"Authorization": f"Bearer {self._turn.mcp_token}"}
            servers.append(_server(MCP_NAME, self._turn.mcp_url, bearer))
        return _request("session/new", cwd=str(self._work), mcpServers=servers)

    def _choose_model(self, offered: JsonObject) -> bytes | None:
        """The request for the model that is wanted, if one is."""
        model = self._turn.model or next(iter(self._profile.models), None)
        if model is None:
            return None
        if "model" in [option["id"] for option in offered.get("configOptions") or []]:
            chosen = {"sessionId": self._session, "configId": "model", "value": model}
            return _request("session/set_config_option", "model", **chosen)
        return _request("session/set_model", "model", sessionId=self._session, modelId=model)

    def _begin(self) -> Iterator[Meant]:
        if self._turn.pictures and not self._sees:
            yield notice("warning", "images_left_out", "The agent takes no images; it is given the words alone.")
        yield Reply(self._prompt())

    def _prompt(self) -> bytes:
        """The turn, after what the agent cannot know; to some, a prompt that begins with a slash is a command."""
        turn = self._turn
        before = [self._profile.system_prompt or CHAT_PROMPT, *_story(turn)]
        pictures = turn.pictures if self._sees else ()
        prompt: list[JsonObject] = [
            {"type": "text", "text": "\n\n".join(before)},
            *(
                {"type": "image", "mimeType": picture.media_type, "data": base64.b64encode(picture.data).decode()}
                for picture in pictures
            ),
            {"type": "text", "text": continuation(turn.decisions) if turn.done else _as_text(turn.text)},
        ]
        return _request("session/prompt", sessionId=self._session, prompt=prompt)


def _story(turn: Turn) -> Iterator[str]:
    """What was said before, as the agent is told it."""
    said = [(said.role, said.text) for said in turn.history]
    if turn.done:
        said += [("user", turn.text), *map(_retold, turn.done)]
    if said:
        told = "\n".join(f"<{role}>\n{text}\n</{role}>" for role, text in said)
        yield f"This conversation has come before:\n<conversation>\n{told}\n</conversation>\nNow the user says:"


def _retold(block: Block) -> tuple[str, str]:
    if block.tool is None:
        return ("user" if block.by_user else "assistant"), block.text
    return "tool", f"{block.tool} {json.dumps(block.input)}\n{block.text}"


def _as_text(text: str) -> str:
    """Words that no agent takes for a command of its own."""
    return f"\n{text}" if text.lstrip().startswith("/") or not text.strip() else text


def _decided(asked: JsonObject, *, allowed: bool) -> bytes:
    """The answer to a request for leave: for this once, where it can be had so."""
    kinds = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
    options = {option["kind"]: option["optionId"] for option in reversed(asked["params"]["options"])}
    chosen = next((options[kind] for kind in kinds if kind in options), None)
    outcome = {"outcome": "selected", "optionId": chosen} if chosen else {"outcome": "cancelled"}
    return _answer(asked, {"outcome": outcome})


def _server(name: str, url: str, headers: dict[str, str]) -> JsonObject:
    listed = [{"name": header, "value": value} for header, value in headers.items()]
    return {"type": "http", "name": name, "url": url, "headers": listed}


def _end(code: str, words: str) -> End:
    return End(error_code=code, error_message=words, kill=True)


def _request(method: str, step: str | None = None, /, **params: Any) -> bytes:
    return line_of({"jsonrpc": "2.0", "id": step or method, "method": method, "params": params})


def _notice(method: str, **params: Any) -> bytes:
    return line_of({"jsonrpc": "2.0", "method": method, "params": params})


def _answer(asked: JsonObject, result: JsonObject) -> bytes:
    return line_of({"jsonrpc": "2.0", "id": asked["id"], "result": result})
