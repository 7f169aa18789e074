"""See the module that is imported: the same tests, on PGlite."""

from tests.integration.test_migrations_executor import *  # noqa: F403 - tests and fixtures alike
