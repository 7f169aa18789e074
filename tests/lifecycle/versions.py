"""The versions of the gateway between which the tests upgrade, as changes of this tree."""

from __future__ import annotations

from collections.abc import Callable

from tests.lifecycle.wheels import Tree

PIP_LIMIT = 180.0  # seconds

OLD, NEW, GOOD, BAD, NOT_STARTING, NOT_WELL = "0.0.9", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"


CHANGES: dict[str, tuple[Callable[[Tree], None], ...]] = {
    OLD: (lambda tree: tree.keep_migrations(8),),
    NEW: (),
    GOOD: (
        lambda tree: tree.add_migration(
            "notes",
            "CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL)",
            "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 10) AS n",
        ),
    ),
    BAD: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)", "DELETE FROM insights"),
        lambda tree: tree.add_migration("broken", "ALTER TABLE users ADD COLUMN extra integer", "SELECT 1 / 0"),
    ),
    NOT_STARTING: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)"),
        lambda tree: tree.replace(
            "src/mosaic_gateway/gateway/app.py",
            "def create_app(",
            "raise RuntimeError('deliberate failure')\n\n\ndef create_app(",
        ),
    ),
    NOT_WELL: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)"),
        lambda tree: tree.replace("src/mosaic_gateway/gateway/routes/bootstrap.py", '"needsSetup"', '"needsAdmin"'),
    ),
}
