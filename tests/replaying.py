"""A recording translated again, as a worker does it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from longwick.events import Event, EventType
from longwick.profiles import Profile
from longwick.transcript import Transcript
from worker.agents import Adapter, Ask, End, Reply, Turn


@dataclass
class Told:
    """What was made of a recording."""

    events: list[Event] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    shown: Transcript = field(default_factory=Transcript)

    @property
    def end(self) -> tuple[str | None, str]:
        [end] = self.ends
        return end.error_code, end.error_message or ""

    def all(self, kind: EventType) -> list[dict[str, object]]:
        return [event.data for event in self.events if event.type is kind]


def started(adapter: Callable[[Profile, Turn], Adapter], name: str, token: str | None = None) -> Adapter:
    """An adapter that has begun its turn, with our tools where it has a token for them."""
    profile = Profile.model_validate({"adapter": name, "command": ["agent"]})
    begun = adapter(profile, Turn("run_1", "thr_1", 1, "anything", [], mcp_url="http://mcp", mcp_token=token))
    begun.launch(Path("/folder"), Path("/home"))
    return begun


def replay(adapter: Adapter, lines: Iterable[bytes]) -> Told:
    """What an adapter makes of these lines, up to the end of the turn."""
    found = Told()
    for line in lines:
        for meant in adapter.translate(line, found.shown):
            match meant:
                case Event():
                    found.events.append(meant)
                    found.shown.add(meant.type, meant.data)
                case Ask():
                    found.asks.append(meant)
                case Reply():
                    found.replies.append(meant.data)
                case End():
                    found.ends.append(meant)
        if found.ends:
            break
    found.events += found.shown.close(partial=not found.ends or found.ends[0].error_code is not None)
    return found


def check_well_formed(found: Told) -> None:
    """Every line means something, each block is opened and closed once, and the turn ends once."""
    assert len(found.ends) == 1
    unknown = [data for data in found.all(EventType.NOTICE) if data["code"] in ("unknown_message", "unreadable_line")]
    assert unknown == []
    called = [data["tool_call_id"] for data in found.all(EventType.TOOL_STARTED)]
    assert len(called) == len(set(called))
    assert {data["tool_call_id"] for data in found.all(EventType.TOOL_COMPLETED)} <= set(called)
    opened = [data["message_id"] for data in found.all(EventType.MESSAGE_STARTED)]
    assert len(opened) == len(set(opened))
    assert sorted(map(str, opened)) == sorted(
        str(data["message_id"]) for data in found.all(EventType.MESSAGE_COMPLETED)
    )
