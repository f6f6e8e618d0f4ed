"""Requests to those who are told. Whatever goes wrong is one line, without the token or a webhook's secret path."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_ops.errors import InputError

if TYPE_CHECKING:
    import httpx

PAGE_SIZE = 100
MOST_LETTERS_OF_AN_ANSWER = 200
MEANINGS = {
    400: "the request was not understood",
    401: "the token is not accepted",
    403: "the token may not do this, or too many requests were made",
    404: "there is no such thing, or the token may not see it",
    410: "this is switched off there",
    422: "the request was refused",
    429: "too many requests were made",
}
"""What a status says to whoever has to mend it."""


class NotTold(Exception):
    """A receiver could not be told. The message is one line that says who and why."""


def checked_url(url: str, option: str) -> str:
    """A web address. Raises InputError, without showing more of it than its beginning."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable():
        raise InputError(f"{option}: not an address that begins with https:// or http://")
    return url.rstrip("/")


def origin(url: str) -> str:
    """Scheme, host and port of an address: what of it may be shown."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def token_from(variable: str) -> str:
    """The token in an environment variable. Raises InputError where there is none."""
    token = os.environ.get(variable, "").strip()
    if not token:
        raise InputError(f"{variable} is not set: put a token there, or print the text with --dry-run")
    if not (token.isascii() and token.isprintable()):
        raise InputError(f"{variable}: not a token: it has letters that no token has")
    return token


def send(
    method: str,
    url: str,
    *,
    timeout: float,
    shown: str,
    secrets: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
    document: Any = None,
) -> httpx.Response:
    """Make one request and return its answer, which is a success.

    Parameters
    ----------
    timeout: how long to wait for each step of it, in seconds
    shown: what an error calls it
    secrets: what an error must not show

    Raises NotTold. Redirections are not followed: they would carry the token to another place.
    """
    import httpx  # a quarter of a second, which every other command would wait for

    try:
        response = httpx.request(
            method, url, timeout=timeout, headers=headers, params=query, json=document, verify=_certificates()
        )
        text = response.text
    except httpx.TimeoutException:
        raise NotTold(f"{shown}: no answer within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotTold(f"{shown}: {_without(secrets, str(error)) or type(error).__name__}") from None
    if response.is_success:
        return response
    meaning = MEANINGS.get(response.status_code, "it failed there" if response.is_server_error else "it was refused")
    said = _without(secrets, _said(text))
    raise NotTold(f"{shown}: {response.status_code}: {meaning}" + (f" ({said})" if said else ""))


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust. Read once: it takes longer than a request."""
    import httpx

    return httpx.create_ssl_context()


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


def _said(text: str) -> str:
    """What a server says of its refusal, on one line."""
    try:
        document = json.loads(text)
        message = document.get("message") or document.get("error")
    except (ValueError, AttributeError):
        message = text
    line = " ".join(str(message).split())
    line = "".join(letter for letter in line if letter.isprintable())
    return line if len(line) <= MOST_LETTERS_OF_AN_ANSWER else line[: MOST_LETTERS_OF_AN_ANSWER - 1] + "…"


class Api:
    """The JSON interface of a forge."""

    def __init__(self, base: str, token: str, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        self._base = base
        self._token = token
        self._timeout = timeout
        self._headers = {**(headers or {}), "Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, document: Any) -> dict[str, Any]:
        """The object that one request is answered with. Raises NotTold."""
        found = self._json(self._send(method, path, document))
        if not isinstance(found, dict):
            raise NotTold(f"{self._shown(method, path)}: the answer is no object")
        return found

    def pages(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The objects of a list that comes in pages. Raises NotTold."""
        number = 1
        while True:
            response = self._send("GET", path, query={**(query or {}), "per_page": PAGE_SIZE, "page": number})
            found = self._json(response)
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise NotTold(f"{self._shown('GET', path)}: the answer is no list of objects")
            yield from found
            if "next" not in response.links or not found:
                return
            number += 1

    def _send(
        self, method: str, path: str, document: Any = None, query: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        return send(
            method,
            self._base + path,
            timeout=self._timeout,
            shown=self._shown(method, path),
            secrets=(self._token,),
            headers=self._headers,
            query=query,
            document=document,
        )

    def _shown(self, method: str, path: str) -> str:
        return f"{origin(self._base)}: {method} {path}"

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            request = response.request
            raise NotTold(
                f"{origin(self._base)}: {request.method} {request.url.path}: the answer is not JSON"
            ) from None
