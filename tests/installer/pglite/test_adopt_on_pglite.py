"""The tests of test_adoption on PGlite."""

from __future__ import annotations

import pytest
from tests.installer.test_adoption import *  # noqa: F403 - tests and fixtures

pytestmark = pytest.mark.slow
