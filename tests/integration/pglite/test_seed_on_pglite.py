"""Runs the tests of the imported module on PGlite."""

from tests.integration.test_migrations_seed import *  # noqa: F403 - tests and fixtures
