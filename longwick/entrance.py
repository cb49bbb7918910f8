"""The tables of who may get in, apart from those of the work itself (longwick/models.py)."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from longwick.models import Base, Id


class ApiKey(Base):
    """A key of an owner; of its text only the digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(40), unique=True)
    """How its text begins: what it is found by, and known by in lists and by who finds it lying around."""
    key_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    """With spaces between them."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""
    revoked_at: Mapped[datetime | None]


class SignIn(Base):
    """A browser that showed a key once, and has a secret of its own since; it is worth what the key is worth."""

    __tablename__ = "sign_ins"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Ticket(Base):
    """Lets somebody who can send no header open one stream, once; gone when it is used."""

    __tablename__ = "tickets"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    path: Mapped[str] = mapped_column(String(200))
    key_id: Mapped[str | None] = mapped_column(Id)
    sign_in: Mapped[str | None] = mapped_column(String(64))
    """What its maker was let in by: the stream ends with it."""
    expires_at: Mapped[datetime]
