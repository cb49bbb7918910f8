"""Seals of live copies: who can write to Redis, but cannot read the record, can make none that is believed.

The key is in the record, in a table that no model knows, as nothing but this needs it.
"""

import hmac

from sqlalchemy import column, select, table

from longwick.database import Db

_SECRETS = table("secrets", column("name"), column("value"))
_KEY = select(_SECRETS.c.value).where(_SECRETS.c.name == "live_copies")


def find_key(db: Db) -> bytes:
    """The deployment's key, the same for all of its processes and for ever."""
    return bytes.fromhex(db.execute(_KEY).scalar_one())


def sealed(key: bytes, channel: str, message: bytes) -> bytes:
    """The message behind its seal, which is of no use on another channel."""
    return _seal(key, channel, message) + b" " + message


def opened(key: bytes, channel: str, message: bytes) -> bytes:
    """The message without its seal.

    Raises:
        ValueError: the seal is not of this key, channel and message.
    """
    seal, _, content = message.partition(b" ")
    if not hmac.compare_digest(seal, _seal(key, channel, content)):
        raise ValueError("the seal is broken")
    return content


def _seal(key: bytes, channel: str, message: bytes) -> bytes:
    return hmac.digest(key, f"{channel} ".encode() + message, "sha256").hex().encode()
