"""The paths that different servers read from one request target.

A server decodes a path once; some keep ``%2F``, some decode twice, some take a backslash for a slash, cut parameters
(``;…``), merge slashes, resolve dot segments. A rule must not be avoided by writing its path in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from urllib.parse import unquote

__all__ = ["MalformedPathError", "path_readings"]

LONGEST = 8192  # bytes
UNUSUAL = re.compile(r"[%\\;]|//|/\.")
TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")  # visible ASCII without the # of a fragment
INVALID_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
SLASH = re.compile("%2f", re.IGNORECASE)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
PARAMETERS = re.compile(";[^/]*")


class MalformedPathError(ValueError):
    """The path is not one that a browser or a program sends: control characters, fragments, invalid escapes."""


def path_readings(path: str) -> frozenset[str]:
    """Return the readings of *path*, which has no query; usually one. Raises `MalformedPathError`."""
    if len(path) > LONGEST or not TARGET.fullmatch(path) or INVALID_ESCAPE.search(path):
        raise MalformedPathError
    if not UNUSUAL.search(path):
        return frozenset((path,))
    readings: set[str] = set()
    for decoded, backslash, parameters in product(_decoded(path), (False, True), (False, True)):
        text = decoded.replace("\\", "/") if backslash else decoded
        text = PARAMETERS.sub("", text) if parameters else text
        readings.update((text, _merged(text), _resolved(text)))
    return frozenset(readings)


def _decoded(path: str) -> Iterable[str]:
    """Return *path* decoded once, once without slashes, and twice. Raises `MalformedPathError`."""
    try:
        once = unquote(path, errors="strict")
        parts = [unquote(part, errors="strict") for part in SLASH.split(path)]
        twice = unquote(once, errors="strict") if ESCAPE.search(once) else once
    except UnicodeDecodeError as error:
        raise MalformedPathError from error
    if CONTROL.search(once) or CONTROL.search(twice):
        raise MalformedPathError
    return {once, "%2F".join(parts), twice}


def _merged(path: str) -> str:
    return re.sub("/{2,}", "/", path)


def _resolved(path: str) -> str:
    """Return *path* without empty and dot segments."""
    resolved: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del resolved[-1:]
        elif segment not in {"", "."}:
            resolved.append(segment)
    directory = segments[-1] in {"", ".", ".."} and resolved
    return "/" + "/".join(resolved) + ("/" if directory else "")
