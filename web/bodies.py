"""What a caller sends: the bodies of requests. (What a caller gets is in web/schemas.py.)"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from longwick.ids import ALPHABET
from longwick.kinds import OnWorkerLost, RunKind
from longwick.submission import IfBusy
from longwick.text import clean_json

DEEPEST = 32
METADATA_BYTES = 16 * 1024
LONGEST_TIMEOUT_SECONDS = 7 * 24 * 3600


class Body(BaseModel):
    """What a caller sends: no field but these, no value of another type, text that the record can hold."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, sent: Any) -> Any:
        if not _within(sent, DEEPEST):
            raise PydanticCustomError("too_deep", "nested more than {most} deep", {"most": DEEPEST})
        return clean_json(sent)


def _within(value: object, most: int) -> bool:
    """Whether a JSON value is nested no deeper than `most`; it may be far deeper than Python can recurse."""
    level = [value]
    for _ in range(most):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return True
    return False


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode())
    except ValueError as error:
        # Python's parser takes NaN and the infinities.
        raise PydanticCustomError("not_json", "a number in it is none that JSON has") from error
    if size > METADATA_BYTES:
        raise PydanticCustomError("too_large", "over the limit of {most} bytes", {"most": METADATA_BYTES})
    return metadata


AgentName = Annotated[str, Field(min_length=1, max_length=200, examples=["demo"])]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_SECONDS, allow_inf_nan=False)]


class NewThread(Body):
    """A thread to be made."""

    title: str = Field(default="", max_length=200)
    """Without one, the thread is named after its first message."""
    agent: AgentName | None = None
    """The agent of its runs that name none."""
    metadata: Metadata = Field(default_factory=dict)


class ThreadChange(Body):
    """What is to be different about a thread; what is not named stays."""

    title: str = Field(default="", max_length=200)
    """Empty: the thread is named after its next message."""
    metadata: Metadata = Field(default_factory=dict)
    """All of it, in place of what there was."""


class MoreInput(Body):
    """What is added to a run at work."""

    input: str = Field(min_length=1, max_length=1_000_000)


class Verdict(Body):
    """What is decided about a tool that an agent wants to use."""

    decision: Literal["allow", "deny"]
    message: str | None = Field(None, max_length=10_000)
    """With a denial: what the agent is told."""


class RunChange(Body):
    """What is to be different about a run that waits; what is not named stays."""

    input: str = Field(default="", min_length=1, max_length=1_000_000)
    """Asked in place of what was asked."""
    before: str | None = Field(default=None, max_length=40)
    """The run of its thread that it is to come before; null: all that wait there come before it."""


class NewRun(Body):
    """A run to be accepted."""

    input: str = Field(min_length=1, max_length=1_000_000, examples=["hello"])
    agent: AgentName | None = None
    """Without one, the thread's agent, or else the default one."""
    # An adapter may hand it to its CLI: never as what could be taken for a flag.
    model: str | None = Field(None, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+\[\]~-]*$")
    kind: RunKind = Field(RunKind.CHAT, strict=False)
    artifact_generation: bool = True
    """False: the agent gets no way to save files."""
    if_busy: IfBusy = Field(IfBusy.QUEUE, strict=False)
    """Where the thread has a run that is not over: wait for it, be refused (`thread_busy`), cancel it first, or add
    this to it, where its agent can take that; else it waits."""
    follows: str | None = Field(None, pattern=f"^(nothing|run_[{ALPHABET}]{{26}})$")
    """The run of the thread that this one goes on from, or `nothing`: what was said on other branches is not told to
    its agent. Without it, the last one."""
    timeout_seconds: Seconds | None = None
    idle_timeout_seconds: Seconds | None = None
    """The longest silence of the agent."""
    on_worker_lost: OnWorkerLost = Field(OnWorkerLost.FAIL, strict=False)
    """Where the worker is lost while the agent runs: fail, or have another one go on from what was shown."""
    max_cost_usd: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The run fails (`budget_exceeded`) once the agent says that it has used more."""
    metadata: Metadata = Field(default_factory=dict)
