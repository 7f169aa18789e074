"""See the module that is imported: the same tests, on PGlite; the others have their like in test_install_pglite.py."""

from __future__ import annotations

import pytest
from tests.installer.test_install_kills import (
    test_of_two_installs_at_once_one_works,
    test_two_installs_started_together_never_both_change,
)

pytestmark = pytest.mark.slow

__all__ = [
    "test_of_two_installs_at_once_one_works",
    "test_two_installs_started_together_never_both_change",
]
