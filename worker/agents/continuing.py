"""What an agent is told when it goes on with a turn that another process of it has begun."""

from collections.abc import Sequence

from longwick.approvals import Decision
from longwick.models import JsonObject
from longwick.transcript import Block

CHAT_PROMPT = (
    "You are a helpful assistant in a chat. Answer in Markdown. To give the user a file, call the tool save_artifact "
    "with its whole content; do not paste long files into the chat."
)
"""Where a profile of the kind `chat` says nothing else."""


def continuation(decisions: Sequence[Decision]) -> str:
    """The message in place of the user's, whose own is in the history by now."""
    words = [
        "(This turn was interrupted by the system, not by the user. Go on exactly where you stopped, as if nothing had "
        "happened: repeat nothing of what you have said or done, and do not mention this.)"
    ]
    for decision in decisions:
        if decision.allowed:
            words.append(f"(The user has allowed the use of {decision.tool} that you asked for: do it now, unchanged.)")
        else:
            words.append(f"(The use of {decision.tool} that you asked for: {decision.words})")
    return "\n".join(words)


def fallback_input(block: Block) -> JsonObject:
    """What a tool was given; providers take nothing but an object there."""
    return block.input if isinstance(block.input, dict) else {}
