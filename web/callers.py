"""Who asks, and whether they may: by a key, a sign-in of the page, a ticket, a proxy's word, or by being here."""

import ipaddress
import re
import time
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from longwick import keys, passes
from longwick.database import Database
from longwick.entrance import ApiKey
from longwick.errors import Forbidden, KeyInAddress, LongwickError, Unauthenticated, Unavailable
from longwick.keys import LOCAL
from longwick.kinds import Scope
from longwick.passes import Hold
from longwick.settings import Settings, is_loopback
from web.presence import Presence

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
API = "/api/v1/"
METRICS = "/metrics"
SESSION = "/api/v1/session"
TICKETS = "/api/v1/tickets"
STREAMS = re.compile(r"/api/v1/(feed|runs/[^/]+/events)")
PAGE_HEADER = "x-longwick-page"
"""What the page sends with all it does: no form of another site can."""
LOOK_SECONDS = 1.0
"""How long it may go unnoticed that there are keys now."""


class How(StrEnum):
    """By what somebody was let in."""

    KEY = "key"
    PAGE = "page"
    TICKET = "ticket"
    PROXY = "proxy"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; the records that they see are their own."""

    owner: str
    scopes: frozenset[Scope]
    how: How
    hold: Hold = field(default_factory=Hold)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a request needs: a caller, who has `scope` where one is named."""

    scope: Scope | None = None


def rule(method: str, path: str) -> Rule | None:
    """What a request to this path needs; None where everybody may come: the page's files, and whether we live.

    The one place where this is decided. A route has nothing to say in it.
    """
    if path == METRICS:
        return Rule(Scope.ADMIN)
    if not path.startswith(API):
        return None
    if path == SESSION:
        return None if method == "POST" else Rule()
    # Whoever may see a stream may have a ticket for it.
    return Rule(Scope.READ if method in SAFE_METHODS or path == TICKETS else Scope.WRITE)


class Callers:
    """Finds out who asks."""

    def __init__(self, settings: Settings, database: Database, presence: Presence, bound: str) -> None:
        self._database = database
        self._presence = presence
        self._proxies = settings.proxies
        self._user_header = settings.proxy_user_header
        self._machine_is_owner = is_loopback(bound) and not settings.proxy_user_header
        self._keyed: bool | None = None
        self._looked_at = float("-inf")
        self._scrapers: set[str] = set()
        """Digests of what was shown for figures, and was good."""

    async def admit(self, request: Request) -> Caller | None:
        """Who asks; None where that is no matter.

        Raises:
            Unauthenticated: nobody that we know.
            Forbidden: somebody who may not do this.
            KeyInAddress: with a key where it is written into logs.
            Unavailable: the record does not answer.
        """
        path = request.scope["path"]
        if keys.FORM.search(path) or keys.FORM.search(request.scope["query_string"].decode("latin-1")):
            raise KeyInAddress("a key does not belong into an address, where logs keep it: revoke it")
        needed = rule(request.method, path)
        if needed is None:
            return None
        try:
            caller = await self._find(request)
        except Unavailable:
            # Figures are about nobody, and wanted most while the record is away.
            unasked = self._keyed is None and self._machine_is_owner and _is_here(request)
            if path == METRICS and (unasked or _shown(request) in self._scrapers):
                return None
            raise
        if caller.how in (How.PAGE, How.PROXY) and request.method not in SAFE_METHODS:
            _check_is_our_page(request)
        if needed.scope is not None and needed.scope not in caller.scopes:
            raise Forbidden(f"this needs the scope {needed.scope.value!r}, which your key lacks", code="scope_missing")
        if path == METRICS and caller.how is How.KEY and (shown := _shown(request)):
            self._scrapers.add(shown)
        return caller

    async def _find(self, request: Request) -> Caller:
        if given := request.headers.getlist("authorization"):
            scheme, _, text = given[0].partition(" ")
            # A proxy with passwords of its own passes on what it was shown.
            if scheme.lower() == "bearer":
                return await self._by_key(text.strip() if len(given) == 1 else "")
        if (token := request.query_params.get("ticket")) is not None and STREAMS.fullmatch(request.scope["path"]):
            return await self._by_ticket(request, token)
        if (token := cookie(request, self.is_https(request))) is not None:
            key = await run_in_threadpool(self._database.read, lambda db: passes.find_signed_in(db, token))
            if key is not None:
                return self._seen(key, How.PAGE, sign_in=keys.digest(token))
        if self._user_header and (named := request.headers.getlist(self._user_header)) and self._is_proxied(request):
            if len(named) > 1 or not keys.OWNER.fullmatch(named[0]):
                raise Unauthenticated("the proxy must name one user, in place of what a client sends")
            return Caller(named[0], frozenset({Scope.READ, Scope.WRITE}), How.PROXY)
        if self._machine_is_owner and _is_here(request) and not await self._is_keyed():
            return Caller(LOCAL, frozenset(Scope), How.LOCAL, Hold(LOCAL))
        raise Unauthenticated("show a key of this server: `Authorization: Bearer KEY` (LONGWICK_API_KEY in a terminal)")

    async def _by_key(self, text: str) -> Caller:
        key = None
        if keys.is_well_formed(text):
            key = await run_in_threadpool(self._database.read, lambda db: keys.authenticate(db, text))
        if key is None:
            raise Unauthenticated("this is no key of this server, or one that was revoked or is over", code="bad_key")
        return self._seen(key, How.KEY)

    async def _by_ticket(self, request: Request, token: str) -> Caller:
        path, owner_and_hold = request.scope["path"], None
        streams = request.method == "GET" and "text/event-stream" in request.headers.get("accept", "")
        if streams and await run_in_threadpool(self._database.read, lambda db: passes.is_ticket(db, token, path)):
            owner_and_hold = await run_in_threadpool(
                self._database.write, lambda db: passes.use_ticket(db, token, path)
            )
        if owner_and_hold is None:
            raise Unauthenticated("the ticket is not for this, is over, or was used: get another", code="bad_ticket")
        owner, hold = owner_and_hold
        return Caller(owner, frozenset({Scope.READ}), How.TICKET, hold)

    def _seen(self, key: ApiKey, how: How, sign_in: str | None = None) -> Caller:
        self._keyed = True
        self._presence.note_use(key.id)
        return Caller(key.owner, keys.scopes_of(key), how, Hold(key.id, sign_in))

    async def _is_keyed(self) -> bool:
        """Whether there are keys; while the record does not answer, what it said last."""
        if self._keyed is None or time.monotonic() - self._looked_at > LOOK_SECONDS:
            try:
                self._keyed = await run_in_threadpool(self._database.read, keys.any_there)
                self._looked_at = time.monotonic()
            except LongwickError:
                if self._keyed is None:
                    raise
        return self._keyed

    def _is_proxied(self, request: Request) -> bool:
        return request.client is not None and self._is_proxy(request.client.host)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)

    def is_https(self, request: Request) -> bool:
        """Whether the browser's connection is encrypted, as far as somebody says so whom we may believe."""
        forwarded = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return forwarded == "https" and self._is_proxied(request)

    def address(self, request: Request) -> str:
        """Where a request comes from: the nearest address that is none of our proxies."""
        address = request.client.host if request.client else ""
        passed_on = [part.strip() for part in ",".join(request.headers.getlist("x-forwarded-for")).split(",")]
        while self._is_proxy(address) and passed_on and passed_on[-1]:
            address = passed_on.pop()
        return address


def _is_here(request: Request) -> bool:
    """Whether a request is from this machine, as far as the name that it uses and the proxies on its way tell."""
    passed_on = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    named = [request.url.hostname or "", *(part.strip() for part in passed_on if part.strip())]
    return all(is_loopback(name) for name in named)


def _shown(request: Request) -> str | None:
    """The digest of what a request shows in its head, if anything."""
    given = request.headers.get("authorization")
    return keys.digest(given) if given else None


def cookie_name(request: Request, *, https: bool) -> str:
    """The cookie of a sign-in. Browsers keep them by host alone: of two servers on one, each has its own."""
    port = request.headers.get("host", "").rpartition("]")[2].partition(":")[2]
    return f"{'__Host-' if https else ''}longwick{f'-{port}' if port else ''}"


def cookie(request: Request, https: bool) -> str | None:
    """The secret of the sign-in that a browser sends; over https none that another host of its domain could set."""
    named = [cookie_name(request, https=True), *([] if https else [cookie_name(request, https=False)])]
    return next((request.cookies[name] for name in named if name in request.cookies), None)


def _check_is_our_page(request: Request) -> None:
    """Refuse what another site's page may have made a browser send. (web/guard.py has refused a foreign Origin.)"""
    same = "origin" in request.headers or request.headers.get("sec-fetch-site") == "same-origin"
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if not same or not (is_json or PAGE_HEADER in request.headers):
        raise Forbidden(f"only our own page may do this by a cookie or a proxy's word; it sends {PAGE_HEADER}")
