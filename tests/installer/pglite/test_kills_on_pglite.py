"""Tests of test_install_kills on PGlite; equivalents of the others are in test_install_pglite.py."""

from __future__ import annotations

import pytest
from tests.installer.test_install_kills import (
    test_a_second_concurrent_install_is_refused,
    test_two_installs_started_together_result_in_one_installation,
)

pytestmark = pytest.mark.slow

__all__ = [
    "test_a_second_concurrent_install_is_refused",
    "test_two_installs_started_together_result_in_one_installation",
]
