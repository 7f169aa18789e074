"""A schema as text, one line per object, to compare two databases.

The lines are generated from the system catalogs by PostgreSQL's own functions (``format_type``,
``pg_get_constraintdef``, ``pg_get_indexdef`` …), so that two databases with the same objects give the same lines,
in whatever order the objects were created. Owners, grants, comments, data and OIDs are not compared.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

__all__ = ["BOOKKEEPING", "differences", "schema_lines"]

#: Schemas in which drizzle and mosaic-gateway record applied migrations.
BOOKKEEPING = ("drizzle", "mosaic")

#: Common table expressions of the queries below. Members of extensions are left out.
NAMES: LiteralString = r"""
WITH spaces AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname NOT LIKE 'pg\_%%' AND nspname <> 'information_schema' AND nspname <> ALL (%(left_out)s)
), of_extensions AS (
    SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'
), relations AS (
    SELECT c.*, format('%%I.%%I', s.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN spaces s ON s.oid = c.relnamespace
    WHERE ('pg_class'::regclass, c.oid) NOT IN (SELECT * FROM of_extensions)
), types AS (
    SELECT t.*, format('%%I.%%I', s.nspname, t.typname) AS name
    FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace
    WHERE ('pg_type'::regclass, t.oid) NOT IN (SELECT * FROM of_extensions)
), functions AS (
    SELECT p.*, format('%%I.%%I(%%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_catalog.pg_proc p JOIN spaces s ON s.oid = p.pronamespace
    WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT * FROM of_extensions)
)
"""
LINES: tuple[LiteralString, ...] = (
    "SELECT format('schema %%I', nspname) AS line FROM spaces",
    "SELECT format('extension %%s', extname) FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'",
    """
    SELECT concat_ws(' ', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'composite type' ELSE 'foreign table' END, name,
        'by ' || pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid),
        CASE relpersistence WHEN 'u' THEN 'unlogged' END,
        CASE WHEN relrowsecurity THEN 'row security' END, CASE WHEN relforcerowsecurity THEN 'forced' END,
        'with ' || array_to_string(reloptions, ', '),
        CASE WHEN relkind IN ('v', 'm') THEN 'as ' || pg_get_viewdef(oid) END)
    FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    """,
    """
    SELECT format('%%s %%s of %%s', 'child', r.name, i.inhparent::regclass)
    FROM relations r JOIN pg_catalog.pg_inherits i ON i.inhrelid = r.oid WHERE r.relkind IN ('r', 'p', 'f')
    """,
    """
    SELECT concat_ws(' ', format('column %%s.%%I', r.name, a.attname), format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation END,
        CASE WHEN a.attnotnull THEN 'not null' END,
        CASE WHEN d.oid IS NOT NULL THEN 'default ' || pg_get_expr(d.adbin, d.adrelid) END,
        CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text
             WHEN a.attgenerated <> '' THEN 'generated ' || a.attgenerated::text END)
    FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'f', 'c')
    """,
    """
    SELECT concat_ws(' ', 'sequence', r.name, format_type(q.seqtypid, NULL), 'from', q.seqstart, 'by', q.seqincrement,
        'within', q.seqmin, q.seqmax, 'cache', q.seqcache, CASE WHEN q.seqcycle THEN 'cycle' END)
    FROM relations r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
    """,
    """
    SELECT format('constraint %%s %%I %%s', coalesce(r.name, t.name), k.conname, pg_get_constraintdef(k.oid))
    FROM pg_catalog.pg_constraint k LEFT JOIN relations r ON r.oid = k.conrelid LEFT JOIN types t ON t.oid = k.contypid
    WHERE k.contype <> 'n' AND (r.oid IS NOT NULL OR t.oid IS NOT NULL)
    """,
    """
    SELECT format('index %%s%%s', pg_get_indexdef(r.oid), CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END)
    FROM relations r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
    """,
    """
    SELECT format('statistics %%s', pg_get_statisticsobjdef(x.oid)) FROM pg_catalog.pg_statistic_ext x
    JOIN relations r ON r.oid = x.stxrelid
    """,
    """
    SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(g.oid), CASE g.tgenabled WHEN 'O' THEN NULL ELSE g.tgenabled END)
    FROM relations r JOIN pg_catalog.pg_trigger g ON g.tgrelid = r.oid
    WHERE NOT g.tgisinternal
    """,
    """
    SELECT format('rule %%s', pg_get_ruledef(u.oid)) FROM relations r JOIN pg_catalog.pg_rewrite u ON u.ev_class = r.oid
    WHERE u.rulename <> '_RETURN'
    """,
    """
    SELECT concat_ws(' ', 'policy', r.name, quote_ident(y.polname), y.polcmd,
        CASE WHEN NOT y.polpermissive THEN 'restrictive' END,
        'to ' || (SELECT string_agg(rolname, ', ' ORDER BY rolname)
                  FROM pg_catalog.pg_roles WHERE oid = ANY (y.polroles)),
        'using ' || pg_get_expr(y.polqual, y.polrelid), 'check ' || pg_get_expr(y.polwithcheck, y.polrelid))
    FROM relations r JOIN pg_catalog.pg_policy y ON y.polrelid = r.oid
    """,
    """
    SELECT format('type %%s enum %%s', name,
        (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
         FROM pg_catalog.pg_enum WHERE enumtypid = types.oid))
    FROM types WHERE typtype = 'e'
    """,
    """
    SELECT concat_ws(' ', 'type', name, 'domain', format_type(typbasetype, typtypmod),
        CASE WHEN typnotnull THEN 'not null' END, 'default ' || typdefault) FROM types WHERE typtype = 'd'
    """,
    """
    SELECT format('type %%s range of %%s', t.name, format_type(g.rngsubtype, NULL))
    FROM types t JOIN pg_catalog.pg_range g ON g.rngtypid = t.oid
    """,
    "SELECT format('function %%s', pg_get_functiondef(oid)) FROM functions WHERE prokind IN ('f', 'p', 'w')",
    """
    SELECT format('aggregate %%s by %%s from %%s', f.name, a.aggtransfn, coalesce(a.agginitval, 'null'))
    FROM functions f JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = f.oid
    """,
    """
    SELECT format('operator %%s by %%s', o.oid::regoperator, o.oprcode)
    FROM pg_catalog.pg_operator o JOIN spaces s ON s.oid = o.oprnamespace
    WHERE ('pg_operator'::regclass, o.oid) NOT IN (SELECT * FROM of_extensions)
    """,
    """
    SELECT format('collation %%I.%%I %%s', s.nspname, l.collname, coalesce(l.collcollate, to_jsonb(l) ->> 'colllocale',
        to_jsonb(l) ->> 'colliculocale')) FROM pg_catalog.pg_collation l JOIN spaces s ON s.oid = l.collnamespace
    """,
    """
    SELECT concat_ws(' ', 'event trigger', quote_ident(evtname), evtevent, evtfoid::regproc,
        array_to_string(evttags, ', '), CASE evtenabled WHEN 'O' THEN NULL ELSE evtenabled END)
    FROM pg_catalog.pg_event_trigger
    WHERE ('pg_event_trigger'::regclass, oid) NOT IN (SELECT * FROM of_extensions)
    """,
    "SELECT format('publication %%I', pubname) FROM pg_catalog.pg_publication",
    "SELECT format('server %%I', srvname) FROM pg_catalog.pg_foreign_server",
)


def schema_lines(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[str, ...]:
    """Return a line for each object of the database outside of the schemas `BOOKKEEPING`, sorted. Reads only."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        lines: set[str] = set()
        for query in LINES:
            lines.update(str(line) for (line,) in connection.execute(NAMES + query, {"left_out": list(BOOKKEEPING)}))
        return tuple(sorted(lines))


def differences(expected: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines missing in *found* (``- line``) and the lines that are only in *found* (``+ line``)."""
    missing, extra = set(expected) - set(found), set(found) - set(expected)
    return tuple(sorted([*(f"- {line}" for line in missing), *(f"+ {line}" for line in extra)], key=lambda s: s[2:]))
