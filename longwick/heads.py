"""How long the head of a request may be before a tier lets go of who sends it. Nothing here knows a server."""

import asyncio
from typing import Any

MOST_BYTES = 128 * 1024
"""Four times what the web tier answers at all (web/guard.py)."""


def bounded(protocol: Any) -> type[asyncio.Protocol]:
    """Uvicorn's protocol of httptools, which by itself keeps a head without end, or what trails a body, for ever."""

    class Bounded(protocol):  # type: ignore[misc]  # the record imports no server
        _held = 0
        """Bytes since a request, or a piece of its body, has begun."""

        def data_received(self, data: bytes) -> None:
            self._held += len(data)
            super().data_received(data)
            if self._held > MOST_BYTES:
                self.transport.abort()

        def on_message_begin(self) -> None:
            self._held = 0
            super().on_message_begin()

        def on_body(self, body: bytes) -> None:
            self._held = 0
            super().on_body(body)

    return Bounded
