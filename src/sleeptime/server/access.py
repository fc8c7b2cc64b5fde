"""Who may ask: names the server answers to, API keys, browsers that signed in, and requests of foreign pages.

    421  a name that is not ours: a page elsewhere that had its name pointed at this machine
    403  a change asked for by a page of another origin
    401  no key, or one that opens nothing; a browser is led to /login
    else `scope["state"]` says tenant, key, is_admin, and the credentials are taken out of the headers

Where no key was ever made, whoever reaches the server is the default tenant; `sleeptime serve` then listens on
loopback alone. A key comes as `Authorization: Bearer st-…`, or as `x-sleeptime-key` where `Authorization` belongs to
an upstream, or behind a session's cookie. Taken out, they reach no route: none can pass them on or log them.

This file does not know routes beyond its own.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sleeptime.core.keys import DEFAULT_TENANT, KEY_BYTES, KEY_PREFIX, ApiKey, check_tenant, digest
from sleeptime.server import failures
from sleeptime.server.tenants import Tenants
from sleeptime.settings import ServeSettings

KEY_HEADER = "x-sleeptime-key"
COOKIE = "sleeptime_session"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login", "/logout"})
REMEMBERED_S = 2.0
"""A key made or revoked by another process is known to be so after this."""
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 1000
LONGEST_FORM = 4096
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def new_key(*, tenant: str, label: str, is_admin: bool = False) -> tuple[str, ApiKey]:
    """Make a key: the secret, to be shown once, and what is kept of it. Raises TenantNameError."""
    secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    kept = ApiKey(
        id=f"k{uuid.uuid4().hex[:12]}",
        label=label,
        tenant=check_tenant(tenant),
        digest=digest(secret),
        is_admin=is_admin,
        created_at=datetime.now(UTC),
    )
    return secret, kept


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine can reach a server that listens on *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Who asks. `key` is the id of the key, empty where none is needed."""

    tenant: str
    key: str
    is_admin: bool


class Access:
    """The keys of the main database, remembered briefly, and the sessions of browsers, for as long as this runs."""

    def __init__(
        self, tenants: Tenants, settings: ServeSettings, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._tenants, self._clock_s = tenants, clock_s
        named = frozenset(name.strip().lower() for name in settings.hosts.split(",") if name.strip())
        self._hosts = _LOOPBACK | named if is_loopback(settings.host) or named else None
        self._known: dict[str, tuple[ApiKey, float]] = {}
        self._sessions: dict[str, tuple[str, float]] = {}
        self._locked_until = -1.0

    async def is_locked(self) -> bool:
        """Whether any key was ever made; a server stays locked when all are revoked."""
        if self._clock_s() >= self._locked_until:
            if not await (await self._tenants.engine()).store.keys():
                return False
            self._locked_until = self._clock_s() + REMEMBERED_S
        return True

    async def admitted(self, headers: Headers) -> Admitted | None:
        """Find who asks, or None where it is nobody who may."""
        if not await self.is_locked():
            return Admitted(tenant=DEFAULT_TENANT, key="", is_admin=True)
        key = await self._key(self._digest(headers))
        return key and Admitted(tenant=key.tenant, key=key.id, is_admin=key.is_admin)

    async def session(self, secret: str) -> str | None:
        """Begin a session for a browser that showed a key; None where the key opens nothing."""
        hashed = digest(secret)
        if await self._key(hashed) is None:
            return None
        now_s = self._clock_s()
        self._sessions = {token: known for token, known in self._sessions.items() if known[1] > now_s}
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_urlsafe(KEY_BYTES)
        self._sessions[digest(token)] = (hashed, now_s + SESSION_S)
        return token

    def end_session(self, headers: Headers) -> None:
        """Forget the session of a browser."""
        self._sessions.pop(digest(_cookie(headers) or ""), None)

    def answers_to(self, host: str) -> bool:
        """Whether *host*, as a request names it, is a name of this server."""
        return self._hosts is None or _hostname(host) in self._hosts

    def _digest(self, headers: Headers) -> str | None:
        """The hash of the key that a request shows."""
        if given := headers.get(KEY_HEADER):
            return digest(given)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and bearer.startswith(KEY_PREFIX):
            return digest(bearer.strip())
        hashed, until_s = self._sessions.get(digest(_cookie(headers) or ""), ("", 0.0))
        return hashed if until_s > self._clock_s() else None

    async def _key(self, hashed: str | None) -> ApiKey | None:
        """Find a key by its hash. Nobody can choose the bytes of a hash, so looking it up tells them nothing of it."""
        if hashed is None:
            return None
        key, until_s = self._known.get(hashed, (None, 0.0))
        if key is None or until_s <= self._clock_s():
            self._known.pop(hashed, None)
            found = await (await self._tenants.engine()).store.keys(digest=hashed)
            key = next((each for each in found if hmac.compare_digest(each.digest, hashed)), None)
            if key is None or key.revoked_at is not None:
                return None
            self._known[hashed] = (key, self._clock_s() + REMEMBERED_S)
        return key


class Guarded:
    """Middleware that lets nobody by who may not ask."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = await self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return  # there is no websocket here
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.answers_to(host):
            words = f"This server does not answer to {host!r}. `hosts` in [serve] of sleeptime.toml names what it does."
            return failures.reply(421, words)
        if scope["method"] not in _READS and _is_foreign(headers, host):
            return failures.reply(403, "A page of another origin may not change anything here.")
        state = scope.setdefault("state", {})
        if scope["path"] in OPEN_PATHS:
            state["is_open"] = True
            return None
        admitted = await self._access.admitted(headers)
        if admitted is None:
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return RedirectResponse("/login", 303)
            words = f"This server asks for a key: Authorization: Bearer {KEY_PREFIX}…, or {KEY_HEADER}."
            return failures.reply(401, words, headers={"www-authenticate": "Bearer"})
        state.update(tenant=admitted.tenant, key=admitted.key, is_admin=admitted.is_admin)
        scope["headers"] = [each for each in map(_without_credentials, scope["headers"]) if each is not None]
        return None


def sign_in_routes(access: Access) -> Sequence[Route]:
    """`/login`, where a browser shows a key for a cookie, and `/logout`."""

    async def page(_request: Request) -> Response:
        return HTMLResponse(_page(), headers=_PAGE_HEADERS)

    async def sign_in(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LONGEST_FORM:
                return failures.reply(413, "That is longer than any key.")
        given = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8).get("key", [""])[0].strip()
        token = await access.session(given)
        if token is None:
            return HTMLResponse(_page("This key opens nothing."), 401, headers=_PAGE_HEADERS)
        response = RedirectResponse("/", 303)
        is_https = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=is_https)
        return response

    async def sign_out(request: Request) -> Response:
        access.end_session(request.headers)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route("/login", page, methods=["GET"]),
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", sign_out, methods=["POST"]),
    ]


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser sent this for a page of another origin. What is no browser says nothing of origins."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _without_credentials(header: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """A header as routes may see it, or None where it is a key or a session of ours."""
    name, value = header
    if name == KEY_HEADER.encode():
        return None
    if name == b"authorization" and value.lower().startswith(b"bearer " + KEY_PREFIX.encode()):
        return None
    if name == b"cookie":
        kept = [part for part in value.split(b";") if not part.strip().startswith(COOKIE.encode())]
        return (name, b";".join(kept).strip()) if kept else None
    return header


_PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
}


def _page(problem: str = "") -> str:
    told = f'<p role="alert">{problem}</p>' if problem else ""
    return _PAGE.replace("<!-- problem -->", told)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · sleeptime</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { margin: 15vh auto; max-width: 24rem; padding: 0 1rem }
  label, input, button { display: block; font: inherit; width: 100%; box-sizing: border-box }
  input, button { padding: .5rem; margin-top: .5rem }
</style>
<main>
<h1>sleeptime</h1>
<!-- problem -->
<form method="post" action="/login">
  <label for="key">API key</label>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Sign in</button>
</form>
<p>An operator makes one with <code>sleeptime keys create</code>.</p>
</main>
</html>
"""
