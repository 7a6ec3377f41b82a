"""Who may look, and what a browser may do with a page: a token, the Host header, and a strict policy."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskctx_sql.ui.pages import Failure, failure_page

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Style sheet, script and icon, which hold nothing of the record: also a page that says no has them.
OPEN: Final = "/static/"


class Guard:
    """Lets through who has the token, and asks for a host that is this machine's; adds the policy to each answer.

    A page of another site whose name leads to this address (DNS rebinding) has its own name in the Host header. So
    only addresses, ``localhost`` and the names that the server was given are answered.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, names: Iterable[str] = ()) -> None:
        self._app, self._token = app, token
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        # Cookies are sent to every port of a host: each server has a name of its own.
        self._cookie = "" if token is None else f"taskctx_{blake2b(token.encode(), digest_size=6).hexdigest()}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_policy)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_known(headers.get("host", "")):
            said = "This address is not one of this server: open the one that `taskctx ui` printed."
            return failure_page(Failure(421, "Another host", said))
        if scope["method"] not in ("GET", "HEAD"):
            answer = failure_page(Failure(405, "Only for looking", "These pages change nothing: they are read by GET."))
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        if self._token is None or scope["path"].startswith(OPEN):
            return None
        return self._without_token(scope, headers, self._token)

    def _without_token(self, scope: Scope, headers: dict[str, str], token: str) -> Response | None:
        """Return what to answer to a request, or None if it has the token."""
        parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in parameters if name == "token"]
        rest = urlencode([(name, value) for name, value in parameters if name != "token"])
        address = scope.get("root_path", "") + scope["path"] + (f"?{rest}" if rest else "")
        if given and _same(given[-1], token):
            # Relative to this host, whatever the path is.
            answer = RedirectResponse("/" + address.lstrip("/"), status_code=303)
            answer.set_cookie(self._cookie, token, httponly=True, samesite="strict", path="/")
            return answer
        if _same(_cookie(headers.get("cookie", ""), self._cookie), token):
            return None
        # A browser does not send the cookie when a link on another site leads here, but when this page leads on.
        is_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        again = "/" + address.lstrip("/") if is_elsewhere and not given else None
        said = "Open the address that `taskctx ui` printed, which has the token, once in this browser."
        return failure_page(Failure(403, "A token is needed", said, again))

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.removeprefix("[").removesuffix("]").lower().rstrip(".")
        if name in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _cookie(header: str, name: str) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
