"""The fields of a JSON body or of a query, checked as better-auth checks them; every issue is in zod's words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from starlette.requests import Request

from mosaic_gateway.auth.better_auth_format import moment_of
from mosaic_gateway.auth.users import UNPRINTABLE, check_name, check_new_email
from mosaic_gateway.errors import UsageError
from mosaic_gateway.gateway.messages import JSON, UNDEFINED, field_issue, issues_error, kind, read_body, require_object

__all__ = ["Fields", "read_fields"]

IMAGE_MAX = 65536  # characters: a URL, or a small image as a data URL


async def read_fields(request: Request, *, expected: str = "object") -> Fields:
    """Return the fields of the JSON body of *request*. Raises `ApiError` (400, 413, 415)."""
    return Fields(require_object(await read_body(request, (JSON,)), expected))


class Fields:
    """Reads fields and collects the issues, which `check` raises together.

    A field with an issue reads as an empty value of its type, which is used for nothing, because `check` raises.
    """

    def __init__(self, values: Mapping[str, object], root: str = "body") -> None:
        self.values = values
        self._root = root
        self._issues: list[str] = []

    def check(self) -> None:
        """Raise `ApiError` (400 VALIDATION_ERROR) if there are issues."""
        if self._issues:
            raise issues_error(self._issues)

    def refuse(self, name: str, problem: str) -> None:
        """Add an issue about the field *name*."""
        self._issues.append(f"[{self._root}.{name}] {problem}")

    def has(self, name: str) -> bool:
        """Return whether the field *name* is there, even as null."""
        return name in self.values

    def text(self, name: str) -> str:
        """Return a required string."""
        return self.optional_text(name, required=True) or ""

    def optional_text(self, name: str, *, required: bool = False) -> str | None:
        """Return a string, None if the field is not there."""
        value = self._typed(name, str, required=required)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        """Return an optional boolean, False if the field is not there."""
        return self._typed(name, bool, required=False) is True

    def number(self, name: str) -> float | None:
        """Return an optional number, None if the field is not there."""
        value = self.values.get(name, UNDEFINED)
        if value is UNDEFINED:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, f"Invalid input: expected number, received {kind(value)}")
            return None
        return value

    def record(self, name: str, *, required: bool = True) -> Mapping[str, object]:
        """Return an object with any fields, empty if it is optional and not there."""
        value = self.values.get(name, UNDEFINED)
        if isinstance(value, dict):
            return value
        if required or value is not UNDEFINED:
            self.refuse(name, f"Invalid input: expected record, received {kind(value)}")
        return {}

    def identifier(self, name: str = "userId") -> str:
        """Return a required value as JavaScript's String() writes it (``z.coerce.string()``)."""
        value = self.values.get(name, UNDEFINED)
        if value is UNDEFINED:
            self.refuse(name, "Invalid input: expected nonoptional, received undefined")
            return ""
        return _javascript_text(value)

    def role(self, name: str = "role", *, required: bool = True) -> str | None:
        """Return a role, or several joined with commas; None if it is optional and not there."""
        value = self.values.get(name, UNDEFINED)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return ",".join(value)
        if required or value is not UNDEFINED:
            self.refuse(name, "Invalid input")
        return None

    def email(self, name: str) -> str:
        """Return a required e-mail address in lower case (``z.email()``)."""
        value = self.text(name)
        if not isinstance(self.values.get(name), str):
            return ""
        try:
            return check_new_email(value)
        except UsageError:
            self.refuse(name, "Invalid email address")
            return ""

    def choice(self, name: str, options: Collection[str]) -> str | None:
        """Return one of *options*, None if the field is not there."""
        value = self.values.get(name)
        if value is None or value in options:
            return value if isinstance(value, str) else None
        self.refuse(name, "Invalid option: expected one of " + "|".join(f'"{option}"' for option in options))
        return None

    def name(self, name: str = "name") -> str:
        """Return a user's name, required, stripped and free of control characters."""
        value = self.text(name)
        if not isinstance(self.values.get(name), str):
            return ""
        try:
            return check_name(value)
        except UsageError as error:
            self.refuse(name, f"Invalid input: {error.hint!s}")
            return ""

    def image(self, name: str = "image") -> str | None:
        """Return the URL of an image, or None if the field is null or not there."""
        if self.values.get(name) is None:
            return None
        value = self.text(name)
        if len(value) > IMAGE_MAX or UNPRINTABLE.search(value):
            self.refuse(name, f"Invalid input: at most {IMAGE_MAX} characters without control characters")
        return value

    def moment(self, name: str) -> datetime | None:
        """Return an ISO 8601 time as UTC without zone, or None if the field is null or not there."""
        value = self.values.get(name)
        if value is None:
            return None
        try:
            return moment_of(value if isinstance(value, str) else "")
        except ValueError:
            self.refuse(name, f"Invalid input: expected date, received {kind(value)}")
            return None

    def _typed(self, name: str, expected: type, *, required: bool) -> object:
        issue = field_issue(self.values, name, expected, optional=not required, root=self._root)
        if issue:
            self._issues.append(issue)
        return self.values.get(name)


def _javascript_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join("" if item is None else _javascript_text(item) for item in value)
    if isinstance(value, dict):
        return "[object Object]"
    return "null" if value is None else str(value)
