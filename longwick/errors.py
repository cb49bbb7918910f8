"""What can go wrong, as one tree; each error knows the code and the HTTP status that a caller sees.

LongwickError
├── BadSetting             the server refuses to start
├── Invalid           422  a request that cannot be carried out as written
│   ├── BadCursor     400
│   ├── KeyInAddress  400
│   └── BadName            an artifact's name that no file system should meet
├── Unauthenticated   401  nobody knows who asks
├── Forbidden         403  it is known who asks, and they may not
├── NotFound          404  missing, or another owner's: the two look the same
├── Conflict          409  the thing is in a state that does not allow this
│   └── Fenced             a write by an attempt that no longer owns its run
├── TooLarge          413
├── TooMany           429
└── Unavailable       503  a part that we need does not answer; try again
    ├── StorageFull   507
    └── StorageUnavailable
"""


class LongwickError(Exception):
    """The root; never raised itself."""

    code = "internal_error"
    status = 500

    def __init__(self, detail: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.param = param


class BadSetting(LongwickError):
    """A setting or a file named by one cannot be used."""

    code = "bad_setting"


class Invalid(LongwickError):
    """The request is well-formed but asks for what cannot be."""

    code = "invalid_request"
    status = 422


class BadCursor(Invalid):
    """A cursor that is not a whole number from zero up."""

    code = "bad_cursor"
    status = 400


class KeyInAddress(Invalid):
    """A key where logs and histories keep it."""

    code = "key_in_url"
    status = 400


class BadName(Invalid):
    """An artifact's name that is refused."""

    code = "bad_name"


class Unauthenticated(LongwickError):
    """What must be shown to come in was not shown, or is worth nothing."""

    code = "unauthenticated"
    status = 401


class Forbidden(LongwickError):
    """Whoever asks may not do this."""

    code = "forbidden"
    status = 403


class NotFound(LongwickError):
    """No such thing, or not the caller's."""

    code = "not_found"
    status = 404


class Conflict(LongwickError):
    """The state of the thing forbids this."""

    code = "conflict"
    status = 409


class Fenced(Conflict):
    """The attempt that writes is no longer the run's."""

    code = "fenced"


class TooLarge(LongwickError):
    """More bytes than the limit."""

    code = "too_large"
    status = 413


class TooMany(LongwickError):
    """Over a quota or a rate; `retry_after` tells in how many seconds it may be worth another try."""

    code = "too_many"
    status = 429

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class Unavailable(LongwickError):
    """A part that this needs does not answer now."""

    code = "unavailable"
    status = 503


class StorageFull(Unavailable):
    """No space is left for the bytes."""

    code = "storage_full"
    status = 507


class StorageUnavailable(Unavailable):
    """What keeps the bytes of files does not answer."""

    code = "storage_unavailable"
