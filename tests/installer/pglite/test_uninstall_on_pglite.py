"""Tests of test_uninstall and test_uninstall_whole on PGlite."""

from __future__ import annotations

import pytest
from tests.installer.test_uninstall import (
    stopped,
    test_a_failed_adoption_loses_nothing,
    test_no_new_secret_is_created_for_retained_data,
    test_purge_does_not_remove_foreign_files,
    test_purge_is_refused_while_the_database_is_in_use,
    test_purge_removes_everything,
)
from tests.installer.test_uninstall_whole import (
    test_a_purge_killed_anywhere_converges,
    test_an_uninstall_interrupted_before_deletion_is_rolled_back,
    test_an_uninstall_killed_anywhere_converges,
    undisturbed,
)

pytestmark = pytest.mark.slow

__all__ = [
    "stopped",
    "test_a_failed_adoption_loses_nothing",
    "test_a_purge_killed_anywhere_converges",
    "test_an_uninstall_interrupted_before_deletion_is_rolled_back",
    "test_an_uninstall_killed_anywhere_converges",
    "test_no_new_secret_is_created_for_retained_data",
    "test_purge_does_not_remove_foreign_files",
    "test_purge_is_refused_while_the_database_is_in_use",
    "test_purge_removes_everything",
    "undisturbed",
]
