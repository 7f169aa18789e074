"""The error that an endpoint raises to respond with a status and a code."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ApiError"]


class ApiError(Exception):
    """An error with an HTTP *status*; the response body is ``{"message", "code"}``, and *headers* are added.

    With an empty *code* the body has none, like some of better-auth's errors; without a *message* too it is empty.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
