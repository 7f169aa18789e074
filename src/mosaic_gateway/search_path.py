"""The search path of every session that this program opens or migrates in, as SQL expressions.

The schema in which tables are created is ``public``: neither ``"$user"`` (an installation has role and schema both as
``mosaic``) nor a setting of the role, the database or PGOPTIONS decides it.
"""

from __future__ import annotations

from typing import LiteralString

__all__ = ["CHOSEN", "FIXED"]

#: ``public``, the schema of pgvector, and the schemas of other extensions that the present path names.
FIXED: LiteralString = """(
SELECT concat_ws(', ', 'public', string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', '))
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE n.nspname NOT IN ('public', 'pg_catalog')
    AND (e.extname = 'vector' OR n.nspname = ANY (pg_catalog.current_schemas(false)))
)"""
#: The present path without ``"$user"``: of a session whose program has chosen one with SET.
CHOSEN: LiteralString = """coalesce(nullif(pg_catalog.regexp_replace(
    pg_catalog.current_setting('search_path'), '"?\\$user"?\\s*,?\\s*', ''), ''), 'public')"""
