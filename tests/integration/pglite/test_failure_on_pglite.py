"""Runs the tests of the imported module on PGlite."""

from tests.integration.test_migrations_failure import *  # noqa: F403 - tests and fixtures
