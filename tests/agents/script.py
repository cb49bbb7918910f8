"""A CLI that does what its turn's text says, step by step: steps are separated by `;`, their words by spaces.

say N GAP      print the text "0 ", "1 ", … as N pieces, GAP seconds apart
count N GAP    the same up to N pieces in all, after those of earlier steps and earlier attempts at this turn
lines N SIZE   print N pieces of text of so many characters, as fast as it goes
line MB        print one line of so many megabytes
errors MB      print so much to standard error
cost USD       say that so much was used
wait FILE      until that file exists, at most 300 s
save NAME      call save_artifact over MCP with a small text
leave NAME     leave a file in ./artifacts/
write NAME WORDS  write a file in the own folder
read NAME      say what is in a file there, or that it is not there
files          say what there is in the own folder
where          say where that is
link NAME TO   make a link there
remove NAME    remove a file there
keep NAME B64  leave a file with those bytes
print B64      print that text, in pieces
think B64      think it aloud
use B64        say that a tool was used, as this JSON says: name, input, output, is_error
chatter N      N times a word and what was used so far, as events of their own
history        say what was said before
pid FILE       write the own process id to a file
exit N         end with that status and no result
Then it gives its result, and ends. Where it is asked to stop, it ends at once.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from base64 import b64decode
from pathlib import Path
from typing import IO, Any


def put(kind: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **more}) + "\n")
    sys.stdout.flush()


def stop_when_asked() -> None:
    # Not by sys.stdin, which a thread that waits for it keeps from being closed.
    while said := os.read(0, 65536):
        if b'"cancel"' in said:
            os._exit(130)


def say(count: str, gap: str) -> None:
    for n in range(int(count)):
        put("text", text=f"{n} ")
        time.sleep(float(gap))


def count(start: int, number: str, gap: str) -> int:
    for n in range(start, int(number)):
        put("text", text=f"{n} ")
        time.sleep(float(gap))
    return max(start, int(number))


def flood(file: IO[str], piece: str, times: int) -> None:
    for _ in range(times):
        file.write(piece)
    file.flush()


def wait(path: str) -> None:
    give_up = time.monotonic() + 300
    while not Path(path).exists() and time.monotonic() < give_up:
        time.sleep(0.01)


def save(name: str) -> None:
    call = f"call_{name}"
    put("tool_use", id=call, name="save_artifact", input={"name": name})
    arguments = {"name": name, "content": f"made by {os.environ['LONGWICK_RUN_ID']}\n"}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "save_artifact", "arguments": arguments, "_meta": {"longwick/callId": call}},
    }
    request = urllib.request.Request(
        os.environ["LONGWICK_MCP_URL"],
        json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {os.environ['LONGWICK_MCP_TOKEN']}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-06-18",
        },
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            result = json.load(answer)["result"]
            put("tool_result", id=call, output=result["content"][0]["text"], is_error=result.get("isError", False))
    except OSError as error:
        put("tool_result", id=call, output=str(error), is_error=True)


def leave(name: str) -> None:
    path = Path("artifacts") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"left by {os.environ['LONGWICK_RUN_ID']}\n")


def write(name: str, words: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(words)


def keep(name: str, content: bytes) -> None:
    path = Path("artifacts") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def speak(kind: str, text: str) -> None:
    for start in range(0, len(text), 200):
        put(kind, text=text[start : start + 200])


def use(name: str, **more: Any) -> None:
    call = f"call_{name}_{time.monotonic_ns()}"
    put("tool_use", id=call, name=name, input=more["input"])
    put("tool_result", id=call, output=more["output"], is_error=more.get("is_error", False))


def chatter(number: int) -> None:
    for n in range(number):
        put("text", text=f"word{n} " + "\n\n" * (n % 40 == 0))
        put("usage", output_tokens=n)


def main() -> None:
    turn = json.loads(sys.stdin.readline())
    threading.Thread(target=stop_when_asked, daemon=True).start()
    counted = turn.get("shown", "").count(" ")
    for step in turn["text"].split(";"):
        match step.split():
            case ["say", number, gap]:
                say(number, gap)
            case ["count", number, gap]:
                counted = count(counted, number, gap)
            case ["lines", number, size]:
                flood(sys.stdout, json.dumps({"type": "text", "text": "x" * int(size)}) + "\n", int(number))
            case ["line", megabytes]:
                sys.stdout.write('{"type":"text","text":"')
                flood(sys.stdout, "x" * 1_000_000, int(megabytes))
                sys.stdout.write('"}\n')
            case ["errors", megabytes]:
                flood(sys.stderr, ("x" * 99 + "\n") * 10_000, int(megabytes))
            case ["cost", dollars]:
                put("usage", output_tokens=1, cost_usd=float(dollars))
            case ["wait", path]:
                wait(path)
            case ["save", name]:
                save(name)
            case ["leave", name]:
                leave(name)
            case ["write", name, *words]:
                write(name, " ".join(words))
            case ["read", name]:
                put("text", text=Path(name).read_text() if Path(name).exists() else f"no {name}")
            case ["files"]:
                put("text", text=" ".join(sorted(str(path) for path in Path().rglob("*"))))
            case ["where"]:
                put("text", text=os.getcwd())
            case ["link", name, target]:
                Path(name).symlink_to(target)
            case ["remove", name]:
                Path(name).unlink()
            case ["keep", name, content]:
                keep(name, b64decode(content))
            case ["print", text]:
                speak("text", b64decode(text).decode())
            case ["think", text]:
                speak("thinking", b64decode(text).decode())
            case ["use", call]:
                use(**json.loads(b64decode(call)))
            case ["chatter", number]:
                chatter(int(number))
            case ["history"]:
                put("text", text=json.dumps([[said["role"], said["text"]] for said in turn["history"]]))
            case ["pid", path]:
                Path(path).write_text(str(os.getpid()))
            case ["exit", status]:
                sys.exit(int(status))
    put("result")


main()
