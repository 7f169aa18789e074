"""Tests of test_install_bad_days on PGlite."""

from __future__ import annotations

import pytest
from tests.installer.test_install_bad_days import (
    test_a_directory_that_cannot_be_written_is_named,
    test_a_disk_that_fills_up_during_the_install_is_left_unchanged,
    test_a_failed_install_with_a_long_path_leaves_no_socket_directory,
    test_a_full_disk_for_a_small_file_undoes_all,
    test_a_home_that_is_a_file_is_refused,
    test_a_used_port_is_reported_with_its_process,
    test_an_unusual_path_works_from_install_to_purge,
    test_too_small_a_disk_is_found_before_anything_is_created,
)

pytestmark = pytest.mark.slow

__all__ = [
    "test_a_directory_that_cannot_be_written_is_named",
    "test_a_disk_that_fills_up_during_the_install_is_left_unchanged",
    "test_a_failed_install_with_a_long_path_leaves_no_socket_directory",
    "test_a_full_disk_for_a_small_file_undoes_all",
    "test_a_home_that_is_a_file_is_refused",
    "test_a_used_port_is_reported_with_its_process",
    "test_an_unusual_path_works_from_install_to_purge",
    "test_too_small_a_disk_is_found_before_anything_is_created",
]
