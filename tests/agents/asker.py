"""An agent of one's own that asks a model by the variables that it has: told as `MODEL WORDS`, it says the answer."""

import json
import os
import sys
import urllib.error
import urllib.request


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


model, _, words = json.loads(sys.stdin.readline())["text"].partition(" ")
request = urllib.request.Request(
    os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages",
    json.dumps({"model": model, "messages": [{"role": "user", "content": words}]}).encode(),
    {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "content-type": "application/json"},
)
try:
    with urllib.request.urlopen(request) as answer:
        say(type="text", text=json.load(answer)["content"][0]["text"])
except urllib.error.HTTPError as refused:
    say(type="text", text=refused.read().decode())
say(type="usage", input_tokens=1, output_tokens=1, cost_usd=7.0)
say(type="result")
