"""The error that an endpoint raises to respond with a status and a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["ApiError"]


class ApiError(Exception):
    """An error with an HTTP *status*; the response body is ``{"message", "code"}``; *headers*, *cookies* are added.

    Some errors of better-auth have no code, and some no body: *code* is empty or None then, *message* empty.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        headers: Mapping[str, str] | None = None,
        cookies: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        self.cookies = cookies
