"""Runs the tests of the imported module on PGlite."""

from tests.integration.test_migrations_nontransactional import *  # noqa: F403 - tests and fixtures
