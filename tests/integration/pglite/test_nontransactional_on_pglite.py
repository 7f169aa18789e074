"""See the module that is imported: the same tests, on PGlite."""

from tests.integration.test_migrations_nontransactional import *  # noqa: F403 - tests and fixtures alike
