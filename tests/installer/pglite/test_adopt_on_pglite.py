"""See the module that is imported: the same tests, on PGlite."""

from __future__ import annotations

import pytest
from tests.installer.test_adoption import *  # noqa: F403 - tests and fixtures alike

pytestmark = pytest.mark.slow
