"""A schema as text, object by object, so that two databases can be compared.

Taken from the catalogs by PostgreSQL's own functions (``format_type``, ``pg_get_constraintdef``,
``pg_get_indexdef`` …), so that two databases with the same objects give the same lines, whatever order
they were made in. Owners, grants, comments, data and object ids do not count.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

__all__ = ["BOOKKEEPING", "differences", "schema_lines"]

#: Schemas of the runners themselves.
BOOKKEEPING = ("drizzle", "mosaic")

QUERY: LiteralString = r"""
WITH spaces AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname NOT LIKE 'pg\_%%' AND nspname <> 'information_schema' AND nspname <> ALL (%(left_out)s)
), extension_objects AS (
    SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'
), relations AS (
    SELECT c.oid, c.relkind, c.relname, s.nspname, format('%%I.%%I', s.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN spaces s ON s.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM extension_objects e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
)
SELECT line FROM (
    SELECT format('schema %%I', nspname) AS line FROM spaces
    UNION ALL
    SELECT format('extension %%s', extname) FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
    UNION ALL
    SELECT format('%%s %%s', CASE r.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
        WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'relation' END, r.name)
        || CASE WHEN r.relkind IN ('v', 'm') THEN ' as ' || pg_get_viewdef(r.oid) ELSE '' END
    FROM relations r WHERE r.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT format('column %%s.%%I %%s%%s%%s%%s', r.name, a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
        CASE WHEN d.oid IS NOT NULL THEN ' default ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END,
        CASE WHEN a.attidentity <> '' THEN ' identity ' || a.attidentity::text
             WHEN a.attgenerated <> '' THEN ' generated' ELSE '' END)
    FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'f')
    UNION ALL
    SELECT format('constraint %%s %%I %%s', r.name, k.conname, pg_get_constraintdef(k.oid))
    FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 'n'
    UNION ALL
    SELECT format('index %%s%%s', pg_get_indexdef(r.oid), CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END)
    FROM relations r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
    UNION ALL
    SELECT format('trigger %%s', pg_get_triggerdef(t.oid)) FROM relations r
    JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('type %%I.%%I enum %%s', s.nspname, t.typname,
        (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
         FROM pg_catalog.pg_enum WHERE enumtypid = t.oid))
    FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace WHERE t.typtype = 'e'
    UNION ALL
    SELECT format('type %%I.%%I domain %%s', s.nspname, t.typname, format_type(t.typbasetype, t.typtypmod))
    FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace WHERE t.typtype = 'd'
    UNION ALL
    SELECT format('function %%s', pg_get_functiondef(p.oid)) FROM pg_catalog.pg_proc p
    JOIN spaces s ON s.oid = p.pronamespace WHERE p.prokind IN ('f', 'p', 'w')
    AND NOT EXISTS (SELECT FROM extension_objects e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
    UNION ALL
    SELECT format('policy %%s %%I %%s %%s', r.name, y.polname, pg_get_expr(y.polqual, y.polrelid),
        pg_get_expr(y.polwithcheck, y.polrelid)) FROM relations r JOIN pg_catalog.pg_policy y ON y.polrelid = r.oid
) AS lines ORDER BY line COLLATE "C"
"""


def schema_lines(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[str, ...]:
    """Return a line for each object of the database outside of the runners' own schemas, sorted. Reads only."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(QUERY, {"left_out": list(BOOKKEEPING)})
        return tuple(str(line) for (line,) in rows)


def differences(expected: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    """Return what *found* lacks (``- line``) and has beyond *expected* (``+ line``)."""
    missing, extra = set(expected) - set(found), set(found) - set(expected)
    return tuple(sorted([*(f"- {line}" for line in missing), *(f"+ {line}" for line in extra)], key=lambda s: s[2:]))
