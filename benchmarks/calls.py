"""The agent `caller`: reports its progress over MCP as often as its argument says, on one connection."""

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

sys.stdin.readline()
server = urlsplit(os.environ["LONGWICK_MCP_URL"])
connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=30)
headers = {
    "Authorization": f"Bearer {os.environ['LONGWICK_MCP_TOKEN']}",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-06-18",
}
for number in range(int(sys.argv[1])):
    params = {"name": "save_artifact", "arguments": {"name": "notes.txt", "content": f"This is note {number}."}}
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    connection.request("POST", server.path, json.dumps(body), headers)
    answer = connection.getresponse()
    result = json.load(answer)["result"]
    assert answer.status == 200, result
    assert not result.get("isError"), result
print(json.dumps({"type": "result", "text": "done"}), flush=True)
