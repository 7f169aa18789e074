"""Is a PostgreSQL's minor version older than one that this package knows of? Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mosaic_gateway_installer.checks.finding import AdviceError

__all__ = ["OutdatedMinorError", "check_minor"]

#: Major version → a minor release that is out (https://www.postgresql.org/support/versioning/, May 2026).
RELEASED: Mapping[int, int] = {15: 18, 16: 14, 17: 10, 18: 4}


class OutdatedMinorError(AdviceError):
    """The PostgreSQL has known faults that a later minor version mends."""

    code = "POSTGRES_OUTDATED"


def check_minor(version: str, *, known: Sequence[str], remedy: str) -> str:
    """Return what is well about *version* (like 18.6); *known* are versions that are at hand as well.

    Raises `OutdatedMinorError`, whose hint names *remedy*.
    """
    major, minor = _parts(version)
    newest = max([RELEASED.get(major, 0), *(parts[1] for parts in map(_parts, known) if parts[0] == major)])
    if minor < newest:
        raise OutdatedMinorError(
            f"PostgreSQL {version} runs; {major}.{newest} is out and mends faults of it",
            hint=f"Bring it up to date by {remedy}: the data stays as it is.",
            details={"version": version, "newest": f"{major}.{newest}"},
        )
    return f"PostgreSQL {version} is the newest {major} that is known here"


def _parts(version: str) -> tuple[int, int]:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0
