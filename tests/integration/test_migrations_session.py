"""The session is the runner's: settings of role, database and PGOPTIONS do not change what a migration does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import UsageError
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import migrate
from mosaic_gateway.migrations.session_settings import SETTINGS, SessionSettingError

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
NUMBERS = count()
#: Settings that a role may have: each would end, refuse or change the migration of `test_settings_of_the_role`.
DEVIANT = {
    "statement_timeout": "150ms",
    "lock_timeout": "1ms",
    "transaction_timeout": "150ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1min",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "session_replication_role": "replica",
    "row_security": "off",
    "check_function_bodies": "off",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "exit_on_error": "on",
    "xmloption": "document",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "search_path": "other",
}


def bundle_of(*files: tuple[str, ...], ledger: str = "gateway") -> Bundle:
    """Return a bundle with a migration for each tuple of statements."""
    texts = [MARK.join(statements) for statements in files]
    migrations = tuple(
        Migration(tag=f"m{number}", when=number + 1, hash=file_hash(text.encode()), statements=split(text))
        for number, text in enumerate(texts)
    )
    return Bundle(name=ledger, ledger=LEDGERS[ledger], migrations=migrations)


@pytest.fixture
def role(postgres_server: PostgresServer, database: str) -> Iterator[str]:
    """Create a role that may do everything in the database but is no superuser; return its name."""
    name = f"session_{next(NUMBERS)}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (admin.info.dbname, name))))
        yield name
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(admin.info.dbname)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def alter(database: str, role: str, settings: dict[str, str]) -> None:
    """Set *settings* for *role*; the path is a list."""
    with psycopg.connect(database, autocommit=True) as admin:
        for name, value in settings.items():
            admin.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(
                    sql.Identifier(role), sql.Identifier(name), sql.Literal(value)
                )
            )


def opened(database: str, role: str, **options: Any) -> Connection:
    """Open an autocommit connection as *role*."""
    return psycopg.connect(psycopg.conninfo.make_conninfo(database, user=role), autocommit=True, **options)


def one(connection: Connection, query: str) -> object:
    """Return the single value that *query* returns."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def supported(database: str) -> dict[str, str]:
    """Return `DEVIANT` without the settings that an older server does not have."""
    with psycopg.connect(database) as admin:
        known = {str(name) for (name,) in admin.execute("SELECT name FROM pg_settings")}
    return {name: value for name, value in DEVIANT.items() if name in known}


def test_settings_of_the_role(database: str, role: str) -> None:
    """Each of them has the runner's value during the run, in every transaction, and its own value afterwards."""
    deviant = supported(database)
    assert {*DEVIANT} == {*SETTINGS, "search_path"} - {"role"}
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA other; CREATE TABLE seen (name text, value text, isolation text)")
        admin.execute(
            sql.SQL("GRANT ALL ON SCHEMA other TO {0}; GRANT ALL ON seen TO {0}").format(sql.Identifier(role))
        )
        admin.execute(sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(sql.Identifier(role)))
    alter(database, role, deviant)
    names = ", ".join(f"('{name}')" for name in deviant)
    note = (
        "INSERT INTO public.seen SELECT name, current_setting(name), current_setting('transaction_isolation')"
        f" FROM (VALUES {names}) AS list (name)"
    )
    bundle = bundle_of(
        (
            "CREATE TABLE t (s text)",
            "INSERT INTO t VALUES ('é\\')",
            "INSERT INTO t SELECT '€' FROM pg_sleep(0.3)",
            note,
        ),
        ("SET LOCAL my.flag = 'x'", "INSERT INTO t SELECT 'late' FROM pg_sleep(0.2)", note),
        ("RESET ALL", "INSERT INTO t SELECT 'later' FROM pg_sleep(0.2)", note),
        ("VACUUM t", "DISCARD ALL", note),
    )
    with opened(database, role) as connection:
        before = {name: one(connection, f"SHOW {name}") for name in deviant}
        assert migrate(bundle, connection).applied == ("m0", "m1", "m2", "m3")
        assert {name: one(connection, f"SHOW {name}") for name in deviant} == before
    with psycopg.connect(database) as admin:
        assert admin.execute("SELECT s FROM public.t").fetchall() == [("é\\",), ("€",), ("late",), ("later",)]
        wanted = {**SETTINGS, "search_path": "public", "lock_timeout": "5s"}
        found = admin.execute("SELECT DISTINCT name, value, isolation FROM seen").fetchall()
        assert sorted(found) == sorted((name, wanted[name], "read committed") for name in deviant)


def test_a_role_set_for_the_role(database: str, role: str) -> None:
    """Objects belong to the user who connects, as they do without ALTER ROLE … SET role."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {0}; GRANT {0} TO {1}").format(sql.Identifier(f"{role}_b"), sql.Identifier(role))
        )
    alter(database, role, {"role": f"{role}_b"})
    try:
        with opened(database, role) as connection:
            assert one(connection, "SELECT current_user") == f"{role}_b"
            migrate(
                bundle_of(("CREATE TABLE t (n integer)", "RESET ROLE; RESET ALL"), ("CREATE TABLE u (n integer)",)),
                connection,
            )
            assert one(connection, "SELECT current_user") == f"{role}_b"
            owners = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename IN ('t', 'u')").fetchall()
        assert owners == [(role,), (role,)]
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(f"{role}_b")))


def test_a_schema_with_the_name_of_the_role(database: str, role: str) -> None:
    """Tables are created in public by the API as by the commands, and by each of several runs of a connection."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(sql.Identifier(role)))
    with opened(database, role) as connection:
        migrate(bundle_of(("CREATE TABLE first (n integer)",)), connection)
        migrate(bundle_of(("CREATE TABLE second (n integer)",), ledger="storage"), connection)
        assert one(connection, "SHOW search_path") == '"$user", public'
    conninfo = psycopg.conninfo.make_conninfo(database, user=role)
    with closing(connect(conninfo, application_name="test")) as session:
        migrate(bundle_of(("CREATE TABLE first (n integer)",), ("CREATE TABLE third (n integer)",)), session)
        tables = session.execute("SELECT schemaname FROM pg_tables WHERE tablename IN ('first', 'second', 'third')")
        assert tables.fetchall() == [("public",)] * 3


def test_a_path_of_the_role_does_not_apply_to_any_run(database: str, role: str) -> None:
    """Neither to the first nor to the second run of a connection, nor to a command's."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE SCHEMA other AUTHORIZATION {}").format(sql.Identifier(role)))
    alter(database, role, {"search_path": "other"})
    conninfo = psycopg.conninfo.make_conninfo(database, user=role)
    with opened(database, role) as connection, closing(connect(conninfo, application_name="test")) as session:
        migrate(bundle_of(("CREATE TABLE first (n integer)",)), connection)
        migrate(bundle_of(("CREATE TABLE second (n integer)",), ledger="storage"), connection)
        migrate(bundle_of(("CREATE TABLE first (n integer)",), ("CREATE TABLE third (n integer)",)), session)
        assert one(connection, "SHOW search_path") == "other"
        tables = session.execute("SELECT schemaname FROM pg_tables WHERE tablename IN ('first', 'second', 'third')")
        assert tables.fetchall() == [("public",)] * 3


def test_the_schema_of_an_extension_stays_in_the_path(database: str, role: str) -> None:
    """What the server's administrator put there on purpose is found, and tables are still created in public."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA extensions TO {}").format(sql.Identifier(role)))
    with opened(database, role) as connection:
        migrate(bundle_of(("CREATE TABLE t (v vector(3))",)), connection)
        assert one(connection, "SELECT schemaname FROM pg_tables WHERE tablename = 't'") == "public"


def test_a_path_that_the_program_has_set_applies(database: str, role: str) -> None:
    """An explicit SET is the caller's wish; only the schema with the name of the role is left out."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}; CREATE SCHEMA tenant AUTHORIZATION {0}").format(
                sql.Identifier(role)
            )
        )
    with opened(database, role) as connection:
        connection.execute('SET search_path = "$user", tenant')
        migrate(bundle_of(("CREATE TABLE t (n integer)",)), connection)
        assert one(connection, "SELECT schemaname FROM pg_tables WHERE tablename = 't'") == "tenant"
        assert one(connection, "SHOW search_path") == '"$user", tenant'


def test_options_of_the_connection(database: str, role: str) -> None:
    """PGOPTIONS, which libpq sends as the option of this name, have no effect either; they are back afterwards."""
    with opened(
        database, role, options="-c search_path=nowhere -c statement_timeout=100ms -c TimeZone=Asia/Tokyo"
    ) as connection:
        migrate(
            bundle_of(("CREATE TABLE t AS SELECT current_setting('TimeZone') AS z FROM pg_sleep(0.3)",)), connection
        )
        assert one(connection, "SELECT z FROM public.t") == "UTC"
        assert one(connection, "SHOW statement_timeout") == "100ms"
        connection.execute("RESET ALL")
        assert one(connection, "SHOW search_path") == "nowhere"


def test_a_setting_that_the_user_may_not_change_is_reported(database: str, role: str) -> None:
    """Nothing runs with triggers off, which only a superuser may turn on again."""
    alter(database, role, {"session_replication_role": "replica"})
    with opened(database, role) as connection:
        with pytest.raises(SessionSettingError, match="session_replication_role") as refused:
            migrate(bundle_of(("CREATE TABLE t (n integer)",)), connection)
        assert refused.value.details["session_replication_role"] == "replica"
        assert one(connection, "SELECT to_regclass('t')") is None


def test_settings_are_back_after_a_failure(database: str) -> None:
    """Also those that the file changed, and the row factory of the connection."""
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("SET statement_timeout = '7s'")
        with pytest.raises(StatementFailedError):
            migrate(bundle_of(("SET statement_timeout = '9s'", "SELECT 1 / 0")), connection)  # type: ignore[arg-type]
        row = connection.execute("SELECT current_setting('statement_timeout') AS value").fetchone()
        assert row == {"value": "7s"}
        report = migrate(bundle_of(("SELECT 1",), ledger="storage"), connection)  # type: ignore[arg-type]
        assert report.applied == ("m0",)


class Foreign:
    """An object of another library."""


Foreign.__module__ = "sqlalchemy.engine.base"


def test_what_is_no_connection_gets_a_sentence(database: str) -> None:
    """The error says what is needed instead; nothing is an AttributeError."""

    async def asynchronous() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            with pytest.raises(UsageError, match=r"not psycopg\.\S*AsyncConnection") as wrong:
                migrate(bundle_of(("SELECT 1",)), connection)  # type: ignore[arg-type]
            assert "thread" in str(wrong.value.hint)

    asyncio.run(asynchronous())
    for given, hint in ((database, "psycopg.connect"), (None, "psycopg.connect"), (Foreign(), "psycopg itself")):
        with pytest.raises(UsageError, match=r"migrate takes an open psycopg\.Connection") as wrong:
            migrate(bundle_of(("SELECT 1",)), given)  # type: ignore[arg-type]
        assert hint in str(wrong.value.hint)
