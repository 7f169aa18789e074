"""Tests of the version check and the format of version numbers."""

from __future__ import annotations

import pytest

from mosaic_gateway.engines.base import ServerTooOldError
from mosaic_gateway.engines.requirements import check_version, version_text
from mosaic_gateway.errors import ExitCode


@pytest.mark.parametrize(
    ("number", "text"), [(180006, "18.6"), (150000, "15.0"), (140009, "14.9"), (100023, "10.23"), (90624, "9.6.24")]
)
def test_version_text(number: int, text: str) -> None:
    """A server_version_num is converted to its usual form."""
    assert version_text(number) == text


@pytest.mark.parametrize("number", [150000, 150014, 180006, 190000])
def test_new_enough(number: int) -> None:
    """PostgreSQL 15 and later pass."""
    check_version(number)


@pytest.mark.parametrize("number", [149999, 140009, 90624])
def test_too_old(number: int) -> None:
    """An older version is a preflight error that names both versions."""
    with pytest.raises(ServerTooOldError, match=f"PostgreSQL {version_text(number)}; at least 15") as caught:
        check_version(number)
    assert caught.value.exit_code is ExitCode.PREFLIGHT
    assert caught.value.details == {"server_version_num": number}
