"""Runs the tests of the imported module on PGlite."""

from tests.integration.test_migrations_refusals import *  # noqa: F403 - tests and fixtures
