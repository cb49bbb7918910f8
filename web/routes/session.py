"""The sign-in of the page: a key is shown once, and a cookie stands for it that no script can read."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from longwick import keys, passes
from longwick.errors import Unauthenticated
from web.admission import KeyShown, Session
from web.callers import Callers, How, cookie, cookie_name
from web.dependencies import TheCaller, TheRecord
from web.openapi import responses
from web.throttle import Throttle

router = APIRouter(prefix="/session", tags=["session"])


async def _callers(request: Request) -> Callers:
    callers: Callers = request.app.state.callers
    return callers


async def _throttle(request: Request) -> Throttle:
    throttle: Throttle = request.app.state.throttle
    return throttle


TheCallers = Annotated[Callers, Depends(_callers)]
TheThrottle = Annotated[Throttle, Depends(_throttle)]


@router.post("", responses=responses(400, 401, 413, 415, 422, 429, 503))
def sign_in(
    shown: KeyShown,
    request: Request,
    response: Response,
    record: TheRecord,
    callers: TheCallers,
    throttle: TheThrottle,
) -> Session:
    """Sign in with a key. The answer sets a cookie, which is no key and ends with it, after 14 days or by `DELETE`."""
    address = callers.address(request)
    throttle.enter(address)
    # A browser says of itself where it is.
    https = callers.is_https(request) or request.headers.get("origin", "").lower().startswith("https://")
    before = cookie(request, https)
    text = shown.key.strip()
    found = record.write(lambda db: passes.sign_in(db, text, before)) if keys.is_well_formed(text) else None
    if found is None:
        raise Unauthenticated("this is no key of this server, or one that was revoked or is over", code="bad_key")
    throttle.succeeded(address)
    key, given = found
    response.set_cookie(
        cookie_name(request, https=https),
        given.token,
        expires=given.expires_at,
        secure=https,
        httponly=True,
        samesite="strict",
    )
    return Session(owner=key.owner, scopes=sorted(keys.scopes_of(key)), how=How.PAGE)


@router.get("", responses=responses(401, 503))
async def get_session(caller: TheCaller) -> Session:
    """Who asks, what they may do, and by what they were let in."""
    return Session(owner=caller.owner, scopes=sorted(caller.scopes), how=caller.how)


@router.delete("", status_code=204, response_class=Response, responses=responses(401, 403, 503))
def sign_out(request: Request, caller: TheCaller, record: TheRecord, callers: TheCallers) -> Response:
    """Sign out: the cookie is worth nothing from now on. A key stays what it is."""
    if (sign_in := caller.hold.sign_in) is not None:
        record.write(lambda db: passes.sign_out(db, sign_in))
    gone = Response(status_code=204)
    for https in (True, False):
        gone.delete_cookie(cookie_name(request, https=https), secure=https, httponly=True, samesite="strict")
    return gone
