"""The running gateway: its HTTP application, and its database.

- The schema: `load_bundles`, `prepare_schema`, `apply_bundles`, `migrations_locked`.
- A home's database, whether the gateway runs or not: `open_database`, `running_database`.
- HTTP: `create_app`; `ask` sends a request to a running gateway.

The gateway's process is in `run`, what starts, stops and supervises it in `control`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.gateway.database_access import open_alone_if_idle, open_database, running_database
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask
    from mosaic_gateway.gateway.schema import (
        apply_bundles,
        load_bundles,
        migrations_locked,
        prepare_schema,
        schema_digest,
    )
else:
    __getattr__ = lazy_names(
        __name__,
        database_access="open_alone_if_idle open_database running_database",
        local_client="NoAnswerError ask",
        schema="apply_bundles load_bundles migrations_locked prepare_schema schema_digest",
    )

__all__ = [
    "NoAnswerError",
    "apply_bundles",
    "ask",
    "load_bundles",
    "migrations_locked",
    "open_alone_if_idle",
    "open_database",
    "prepare_schema",
    "running_database",
    "schema_digest",
]
