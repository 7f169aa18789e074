"""Runs the tests of the imported module on PGlite."""

from tests.integration.test_migrations_executor import *  # noqa: F403 - tests and fixtures
