"""An attempt's pass to the gateway: what it may ask of models, and what it has used."""

import math
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from longwick.events import Event, EventType, notice
from longwick.prices import is_listed, undated
from longwick.profiles import Profile
from longwick.providers import Name
from worker.usage import Tokens

MOST_NOTICES = 20
"""How many different things an attempt is told to have tried in vain."""
COUNTED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Refused(Exception):
    """A request that the pass does not cover; it is the run's end, too."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class Pass:
    """Worth nothing until it is bound to an attempt, and nothing again once that is over. Used by several threads."""

    def __init__(self, profile: Profile) -> None:
        self.token = secrets.token_urlsafe(32)
        self.profile = profile
        self.run_id = ""
        self.attempt = 0
        self.traceparent: str | None = None
        """The part of a trace that the attempt is."""
        self.refused: Refused | None = None
        """Why the run has to end."""
        self._max_cost_usd = math.inf
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._before: Tokens = {}
        self._used: Tokens = {}
        self._inclusive = False
        """Whether `input_tokens` are counted with those that were read from a cache."""
        self._cost_usd = self._cost_before = 0.0
        self._unpriced = False
        self._told: dict[str, Any] = {}
        self._news = False
        self._notices: dict[str, Event] = {}
        self._noticed: set[str] = set()

    def bind(
        self,
        run_id: str,
        attempt: int,
        *,
        max_cost_usd: float = math.inf,
        used: Mapping[str, Any] | None = None,
        cost_usd: float | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """From now on it is this attempt's, whose run may cost so much in all, and has used what is said before.

        `wake` is called when the run has to end.
        """
        with self._lock:
            self._before = {name: n for name, n in (used or {}).items() if isinstance(n, int)}
            self._cost_before = cost_usd or 0.0
            self._max_cost_usd, self._wake = max_cost_usd, wake
            self.run_id, self.attempt = run_id, attempt

    def check(self, model: str | None) -> None:
        """Look whether the model may be asked now; None for what is about no model.

        Raises:
            Refused: it may not, and the run is to end.
        """
        with self._lock:
            may = self.profile.asked_models
            if self.refused is None and may and model is not None and not is_listed(model, may):
                self._refuse("unknown_model", f"The agent has asked for the model {model[:200]!r}, which it may not.")
            if self.refused is not None:
                raise self.refused

    def count(self, provider: Name, model: str, more: Tokens) -> None:
        """Take note of what an answer has used."""
        with self._lock:
            for name, count in more.items():
                self._used[name] = self._used.get(name, 0) + count
            self._news = True
            self._inclusive = provider == "openai"
            prices = self.profile.prices
            price = prices.get(model) or prices.get(undated(model))
            if price is None:
                self._note_unpriced(model)
            else:
                cached = more.get("cache_read_input_tokens", 0) if self._inclusive else 0
                self._cost_usd += price.of({**more, "input_tokens": more.get("input_tokens", 0) - cached})
            if self.profile.max_tokens is not None and self._tokens > self.profile.max_tokens:
                self._refuse("budget_exceeded", f"The agent has used more than {self.profile.max_tokens} tokens.")
            elif self._cost_before + self._cost_usd > self._max_cost_usd:
                self._refuse("budget_exceeded", f"The agent has used more than {self._max_cost_usd:g} USD.")

    def note(self, code: str, words: str) -> None:
        """Have the run's log say something, once."""
        with self._lock:
            self._note(code, words)

    def merged(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What the run has used, given what its CLI says of it: what has passed is counted here, and not twice."""
        with self._lock:
            self._told = dict(told)
            return self._merged()

    def take(self) -> list[Event]:
        """What the run's log is to say since this was last asked."""
        with self._lock:
            notices = list(self._notices.values())
            self._notices.clear()
            if not self._news:
                return notices
            self._news = False
            return [*notices, Event(EventType.USAGE_UPDATED, self._merged())]

    def _merged(self) -> dict[str, Any]:
        if not self._used:
            return self._told
        used = {name: self._before.get(name, 0) + count for name, count in self._used.items()}
        merged = {**self._told, **self._before, **used}
        merged.pop("cost_usd", None)
        if not self._unpriced:
            return merged | {"cost_usd": self._cost_before + self._cost_usd}
        told = self._told.get("cost_usd")
        if isinstance(told, int | float):
            return merged | {"cost_usd": self._cost_before + told}
        return merged

    @property
    def _tokens(self) -> int:
        """All that counts, once."""
        both = [{**self._before}, self._used]
        names = [name for name in COUNTED if not (self._inclusive and name == "cache_read_input_tokens")]
        return sum(each.get(name, 0) for each in both for name in names)

    def _note_unpriced(self, model: str) -> None:
        self._unpriced = True
        # Claude Code has prices of its own.
        if self._max_cost_usd < math.inf and self.profile.adapter != "claude":
            self._note("unpriced_model", f"No price is known of {model[:200]!r}: the limit of the cost cannot hold.")

    def _note(self, code: str, words: str) -> None:
        if words not in self._noticed and len(self._noticed) < MOST_NOTICES:
            self._noticed.add(words)
            self._notices[words] = notice("warning", code, words)

    def _refuse(self, code: str, words: str) -> None:
        if self.refused is None:
            self.refused = Refused(code, words)
            self._wake()
