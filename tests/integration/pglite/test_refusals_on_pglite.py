"""See the module that is imported: the same tests, on PGlite."""

from tests.integration.test_migrations_refusals import *  # noqa: F403 - tests and fixtures alike
