"""See the modules that are imported: the same tests, on PGlite."""

from __future__ import annotations

import pytest
from tests.installer.test_uninstall import (
    stopped,
    test_a_failing_install_over_kept_data_loses_nothing,
    test_a_new_secret_is_never_made_over_kept_data,
    test_purge_leaves_the_machine_as_it_was,
    test_purge_spares_what_is_not_ours,
    test_purge_waits_for_nobody_who_uses_the_database,
)
from tests.installer.test_uninstall_whole import (
    test_a_purge_killed_anywhere_converges,
    test_an_uninstall_killed_anywhere_converges,
    test_interrupted_before_anything_is_deleted_the_gateway_serves_again,
    undisturbed,
)

pytestmark = pytest.mark.slow

__all__ = [
    "stopped",
    "test_a_failing_install_over_kept_data_loses_nothing",
    "test_a_new_secret_is_never_made_over_kept_data",
    "test_a_purge_killed_anywhere_converges",
    "test_an_uninstall_killed_anywhere_converges",
    "test_interrupted_before_anything_is_deleted_the_gateway_serves_again",
    "test_purge_leaves_the_machine_as_it_was",
    "test_purge_spares_what_is_not_ours",
    "test_purge_waits_for_nobody_who_uses_the_database",
    "undisturbed",
]
