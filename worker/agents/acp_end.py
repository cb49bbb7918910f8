"""What the end of a turn means that an agent has reached over the Agent Client Protocol."""

import re

from longwick.models import JsonObject
from longwick.text import shorten
from worker.agents import End
from worker.agents.failing import provider_failure

COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cachedReadTokens": "cache_read_input_tokens",
    "cachedWriteTokens": "cache_creation_input_tokens",
}


def end_of(result: JsonObject, *, denied: bool) -> End:
    """The end that a turn has come to by itself; something may have been `denied` in it."""
    usage = usage_of(result)
    match result.get("stopReason"):
        case "end_turn" if usage and not any(usage.values()):
            # Gemini CLI ends so when all that the provider gave has broken off.
            return _failed("provider_error", "The provider gave no whole answer.")
        case "end_turn":
            return End(kill=True)
        case "max_tokens":
            return _failed("provider_error", "The answer is longer than the model may write.")
        case "max_turn_requests":
            return _failed("budget_exceeded", "The agent has asked the model as often as it may.")
        case "refusal":
            return _failed("agent_error", "The model refuses to answer.")
        case "cancelled" if denied:
            # So Codex takes a denial.
            return _failed("agent_error", "The agent goes no further, as a tool was not allowed.")
        case reason:
            return _failed("agent_error", f"The agent stopped by itself ({shorten(str(reason))}).")


def failure_of(error: JsonObject) -> End:
    """The end of a turn that failed; each agent has a place of its own for the reason."""
    words, code = words_of(error), error.get("code")
    data = error.get("data") if isinstance(error.get("data"), dict) else {}
    assert isinstance(data, dict)
    if "content_filter" in words:
        return _failed("agent_error", f"The model refuses to answer ({words}).")
    found = re.search(r"\bstatus:? ([45]\d\d)\b", words)
    status = int(found[1]) if found else code if isinstance(code, int) and 400 <= code < 600 else None
    kind = data.get("errorKind") or status
    if kind or "codex_error_info" in data:
        return _failed("provider_error", provider_failure(kind, words))
    return _failed("agent_error", f"The agent failed: {words}")


def words_of(error: JsonObject) -> str:
    """The reason that an error gives."""
    data = error.get("data")
    told = data if isinstance(data, dict) else {}
    words = told.get("message") or told.get("details") or error.get("message") or "it gives no reason"
    return str(words).removeprefix("Internal error: ")


def usage_of(result: JsonObject) -> dict[str, int]:
    """What a turn has used, as far as its end says so."""
    counted = result.get("usage") or {}
    usage = {ours: counted[theirs] for theirs, ours in COUNTS.items() if isinstance(counted.get(theirs), int)}
    quota = ((result.get("_meta") or {}).get("quota") or {}).get("token_count") or {}
    return usage or {name: count for name, count in quota.items() if isinstance(count, int)}


def _failed(code: str, words: str) -> End:
    # None can be relied on to end when its input does.
    return End(error_code=code, error_message=words, kill=True)
