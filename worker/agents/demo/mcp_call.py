"""The one call that the demo agent makes of the MCP server."""

import json
from typing import NamedTuple

SAVE_SECONDS = 30.0


class Reply(NamedTuple):
    """What the MCP server answered."""

    text: str
    failed: bool


def save_artifact(url: str, token: str, call_id: str, arguments: dict[str, str]) -> Reply:
    """Save a file as an artifact of this run; a failure is a reply too."""
    # Here, because it takes longer to import than all the rest, and many answers save nothing.
    import urllib.request
    from http.client import HTTPException
    from urllib.error import HTTPError

    params = {"name": "save_artifact", "arguments": arguments, "_meta": {"longwick/callId": call_id}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, json.dumps(call).encode(), headers)  # noqa: S310 - the worker's own URL
        with direct.open(request, timeout=SAVE_SECONDS) as response:
            answer = json.load(response)
        if "error" in answer:
            return Reply(f"the MCP server refused: {answer['error']['message']}", failed=True)
        text = "\n".join(part["text"] for part in answer["result"]["content"] if part["type"] == "text")
        return Reply(text, failed=bool(answer["result"].get("isError")))
    except HTTPError as error:
        return Reply(f"the MCP server answered {error.code} {error.reason}", failed=True)
    except (OSError, HTTPException) as error:
        return Reply(f"the MCP server cannot be reached: {getattr(error, 'reason', error)}", failed=True)
    except (ValueError, KeyError, TypeError) as error:
        return Reply(f"the MCP server's answer makes no sense: {error!r}", failed=True)
