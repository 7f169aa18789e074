"""Signed cookies in better-auth's format.

Value: ``encodeURIComponent(text + "." + base64(HMAC-SHA256(secret, text)))`` with standard base64 of 44
characters, split at the last dot; the unencoded form is accepted too. With an https base URL, names
have the prefix ``__Secure-`` and cookies the attribute Secure. With a domain, cookies have the attribute Domain
(better-auth's ``crossSubDomainCookies``), and those without it, of the time before, are deleted with each of them.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from urllib.parse import quote, unquote

from mosaic_gateway.config import Secret

__all__ = ["Cookies"]

SIGNATURE_LENGTH = 44
SESSION_DAYS = 7
DONT_REMEMBER = "dont_remember"
DIGEST_LENGTH = 32
ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"
SECURE_ATTRIBUTES = "Path=/; HttpOnly; Secure; SameSite=Lax"
UNESCAPED = "!'()*"  # left as they are by encodeURIComponent, but not by urllib's quote


class Cookies:
    """Creates and verifies the cookies of one gateway, signed with *secret*; browsers send them to all of *domain*."""

    def __init__(self, secret: Secret, base_url: str, domain: str | None = None) -> None:
        self._key = secret.reveal().encode()
        secure = base_url.lower().startswith("https://")
        self._prefix = "__Secure-better-auth." if secure else "better-auth."
        self._host_attributes = SECURE_ATTRIBUTES if secure else ATTRIBUTES
        self._attributes = f"Domain={domain}; {self._host_attributes}" if domain else self._host_attributes
        self._session_name = f"{self._prefix}session_token"

    def sign(self, text: str) -> str:
        """Return ``text.signature``, not yet percent-encoded."""
        return f"{text}.{self._signature(text)}"

    def unsign(self, value: str) -> str | None:
        """Return the text of a signed *value*, percent-encoded or not; None if the signature is invalid."""
        if "%" in value:
            value = unquote(value)
        text, dot, signature = value.rpartition(".")
        if not dot or not text or len(signature) != SIGNATURE_LENGTH:
            return None
        expected = self._signature(text).encode()
        return text if hmac.compare_digest(expected, signature.encode("utf-8", "replace")) else None

    def session_token(self, cookie: str | None, authorization: str | None = None) -> str | None:
        """Return the session token of a request, or None.

        *cookie* and *authorization* are the header values. A bearer token is a signed value and takes precedence over
        the cookie unless its signature is invalid (better-auth's bearer plugin with ``requireSignature``).
        """
        token = self._bearer_token(authorization) if authorization else None
        if token is None and cookie and (value := _cookie_value(cookie, self._session_name)):
            token = self.unsign(value)
        # Tokens are printable ASCII; PostgreSQL would refuse some other texts.
        return token if token and token.isascii() and token.isprintable() else None

    def signed_in(self, token: str, *, remember: bool) -> list[str]:
        """Return the Set-Cookie values of a new session; without *remember*, cookies that end with the browser."""
        value = quote(self.sign(token), safe=UNESCAPED)
        if remember:
            max_age = f"Max-Age={SESSION_DAYS * 86400}"
            return [*self._cleared_of_host(), f"{self._session_name}={value}; {max_age}; {self._attributes}"]
        flag = quote(self.sign("true"), safe=UNESCAPED)
        return [
            *self._cleared_of_host(),
            f"{self._session_name}={value}; {self._attributes}",
            f"{self._prefix}{DONT_REMEMBER}={flag}; {self._attributes}",
        ]

    def cleared(self) -> list[str]:
        """Return the Set-Cookie values that delete every cookie of a session."""
        return [*self._cleared_of_host(), *self._cleared(self._attributes)]

    def _cleared_of_host(self) -> list[str]:
        """With a domain: delete the cookies without it first, because browsers send both."""
        return self._cleared(self._host_attributes) if self._attributes != self._host_attributes else []

    def _cleared(self, attributes: str) -> list[str]:
        names = ("session_token", "session_data", DONT_REMEMBER)
        return [f"{self._prefix}{name}=; Max-Age=0; {attributes}" for name in names]

    def bearer(self, token: str) -> str:
        """Return the value with which an Authorization header names the session *token*."""
        return quote(self.sign(token), safe=UNESCAPED)

    def dont_remember(self, cookie: str | None) -> bool:
        """Return whether the session of a request is not to be extended (``rememberMe: false``)."""
        return self.read(DONT_REMEMBER, cookie) is not None

    def remembered(self) -> str:
        """Return the Set-Cookie value that deletes the cookie of an earlier ``rememberMe: false``."""
        return f"{self._prefix}{DONT_REMEMBER}=; Max-Age=0; {self._attributes}"

    def signed(self, name: str, text: str, max_age: int) -> str:
        """Return the Set-Cookie value of a further cookie *name* with *text*, signed; *max_age* in seconds."""
        value = quote(self.sign(text), safe=UNESCAPED)
        return f"{self._prefix}{name}={value}; Max-Age={max_age}; {self._attributes}"

    def read(self, name: str, cookie: str | None) -> str | None:
        """Return the text of the signed cookie *name* in a Cookie header, None if missing or not valid."""
        value = _cookie_value(cookie, f"{self._prefix}{name}") if cookie else None
        return self.unsign(value) if value else None

    def digest(self, text: str) -> str:
        """Return a keyed digest of *text* (32 hex characters), which does not reveal it."""
        return hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256").hex()[:DIGEST_LENGTH]

    def _bearer_token(self, authorization: str) -> str | None:
        scheme, _, value = authorization.partition(" ")
        return self.unsign(value.strip()) if scheme.lower() == "bearer" else None

    def _signature(self, text: str) -> str:
        return b64encode(hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256")).decode("ascii")


def _cookie_value(header: str, name: str) -> str | None:
    """Return the first value, not empty, of the cookie *name* in a Cookie header (RFC 6265, section 4.2.1)."""
    for pair in header.split(";"):
        key, equals, value = pair.strip().partition("=")
        if equals and key == name and value:
            return value
    return None
