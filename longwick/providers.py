"""The providers of models that the gateway stands for: how their keys are called, and what a CLI is given instead."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Name = Literal["anthropic", "openai"]

OAUTH_BETA = "oauth-2025-04-20"
"""Without it the API of Anthropic takes no token of a subscription."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go, and the headers that carry the key."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    beta: str = ""
    """What `anthropic-beta` has to name beside what the CLI asks for."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of API, by the names of its variables."""

    keys: tuple[str, ...]
    """Of these one must hold the key; the first is the one that a CLI gets its token in."""
    base_url: str
    default_url: str
    route: str
    """Where the API begins under the gateway's address, as a CLI expects it of its `base_url`."""

    @property
    def variables(self) -> tuple[str, ...]:
        """All that speak of it."""
        return (*self.keys, self.base_url)

    def upstream(self, environ: Mapping[str, str]) -> Upstream | None:
        """What the variables say; None where there is no key among them."""
        key = next((name for name in self.keys if environ.get(name)), None)
        if key is None:
            return None
        url = (environ.get(self.base_url) or self.default_url).rstrip("/")
        if key == "ANTHROPIC_API_KEY":
            return Upstream(url, {"x-api-key": environ[key]})
        beta = OAUTH_BETA if key == "CLAUDE_CODE_OAUTH_TOKEN" else ""
        return Upstream(url, {"authorization": f"Bearer {environ[key]}"}, beta)

    def given(self, gateway: str, token: str) -> dict[str, str]:
        """The variables of a CLI that asks the gateway."""
        return {self.base_url: gateway + self.route, self.keys[0]: token}


PROVIDERS: Mapping[Name, Provider] = {
    "anthropic": Provider(
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com",
        "/anthropic",
    ),
    "openai": Provider(("OPENAI_API_KEY",), "OPENAI_BASE_URL", "https://api.openai.com/v1", "/openai/v1"),
}
OF_ADAPTER: Mapping[str, Name] = {"claude": "anthropic", "codex": "openai"}
"""Which of them a CLI asks that we know."""
KEPT = {name for provider in PROVIDERS.values() for name in provider.variables}
"""Variables that no CLI gets from us but with a token and an address of the gateway's."""
