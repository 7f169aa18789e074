"""Comparison of PostgreSQL's minor version with the newest known one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mosaic_gateway_installer.checks.finding import AdviceError

__all__ = ["OutdatedMinorError", "check_minor"]

#: Major version → newest minor version (https://www.postgresql.org/support/versioning/, May 2026).
RELEASED: Mapping[int, int] = {15: 18, 16: 14, 17: 10, 18: 4}


class OutdatedMinorError(AdviceError):
    """PostgreSQL has known faults that a later minor version fixes."""

    code = "POSTGRES_OUTDATED"


def check_minor(version: str, *, known: Sequence[str], remedy: str) -> str:
    """Return a sentence about *version* (like 18.6) if it is the newest minor version.

    *known* are further versions to compare with. Raises `OutdatedMinorError`, whose hint contains *remedy*.
    """
    major, minor = _parts(version)
    newest = max([RELEASED.get(major, 0), *(parts[1] for parts in map(_parts, known) if parts[0] == major)])
    if minor < newest:
        raise OutdatedMinorError(
            f"PostgreSQL {version} is outdated: {major}.{newest} fixes faults of it",
            hint=f"Update PostgreSQL: {remedy}. The data does not change.",
            details={"version": version, "newest": f"{major}.{newest}"},
        )
    return f"PostgreSQL {version} is the newest known {major}"


def _parts(version: str) -> tuple[int, int]:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0
