from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.model import Migration, PlannedMigration, Statement
from mosaic_gateway.migrations.parse import prefix_hash
from mosaic_gateway.migrations.progress import advance
from mosaic_gateway.migrations.quoting import quote_name, quote_text
from mosaic_gateway.migrations.script import (
    TransactionTemplate,
    compose,
    execute,
    remaining_tasks,
)

QUIET = settings(database=None, deadline=None, max_examples=200)
CHUNKS = st.lists(st.text(alphabet="aé😀 \n;'$", min_size=1, max_size=12), min_size=1, max_size=5)
TEMPLATE = TransactionTemplate(
    ledger_key="drizzle.ledger",
    settings="",
    advance=execute,
    record=lambda migration: f"INSERT {migration.tag};",
    capture=lambda item: f"CAPTURE {item.statement.number};",
)


def planned(chunks: list[str], start: int = 0, tag: str = "m0") -> PlannedMigration:
    """Return the plan of a migration with these statements."""
    statements = tuple(Statement(number=n, line=n, sql=sql) for n, sql in enumerate(chunks, 1))
    return PlannedMigration(migration=Migration(tag=tag, when=1, hash="f" * 64, statements=statements), start=start)


@QUIET
@given(CHUNKS, st.data())
def test_a_position_in_the_message_is_located_in_its_statement(chunks: list[str], data: st.DataObject) -> None:
    """Positions are counted in characters, as PostgreSQL reports them."""
    script = compose(list(remaining_tasks(planned(chunks))), TEMPLATE)
    index = data.draw(st.integers(0, len(chunks) - 1))
    offset = data.draw(st.integers(0, len(chunks[index]) - 1))
    start = script.starts[index]
    assert script.text[start : start + len(chunks[index])] == chunks[index]
    assert script.locate(start + offset + 1) == (index, offset + 1)
    assert script.locate(start + len(chunks[index]) + 1) == (index, len(chunks[index]) + 1)
    assert script.locate(start) is None, "the position is still in the runner's text"


def test_each_statement_has_its_own_transaction() -> None:
    """Progress comes first, the ledger row with the last statement, and one flush at the end of the message."""
    work = [
        *remaining_tasks(planned(["A", "B"])),
        *remaining_tasks(planned(["C"], tag="m1")),
        *list(remaining_tasks(planned(["D", "E"])))[:1],
    ]
    parts = compose(work, TEMPLATE).text.split("COMMIT;")
    assert len(parts) == 5
    assert parts.pop() == ""
    assert all(
        part.startswith("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;EXECUTE mosaic_advance(") for part in parts
    )
    assert ["INSERT m" in part for part in parts] == [False, True, True, False]
    assert ["synchronous_commit" in part for part in parts] == [False, False, False, True]
    assert all(part.index("EXECUTE") < part.rindex(sql) for part, sql in zip(parts, "ABCD", strict=True))


def test_no_flush_before_a_migration_ends() -> None:
    """A message that does not finish a migration is not flushed."""
    assert "synchronous_commit" not in compose(list(remaining_tasks(planned(["A", "B"])))[:1], TEMPLATE).text


@QUIET
@given(CHUNKS, st.data())
def test_tasks_begin_at_the_start_of_the_plan(chunks: list[str], data: st.DataObject) -> None:
    """Each task has the prefix hashes before and after it; only the final one is ``last``."""
    start = data.draw(st.integers(0, len(chunks)))
    plan = planned(chunks, start)
    work = list(remaining_tasks(plan))
    assert [item.statement.number for item in work] == list(range(start + 1, len(chunks) + 1))
    for item in work:
        number = item.statement.number
        assert item.before == prefix_hash(plan.migration.statements, number - 1)
        assert item.after == prefix_hash(plan.migration.statements, number)
        assert item.last is (number == len(chunks))


def test_settings_are_saved_after_the_first_change() -> None:
    """They are also saved if an earlier run applied the statement that changed them."""
    chunks = ["DELETE FROM t", "SET my.flag = 'x'", "DELETE FROM t"]
    assert [item.captures for item in remaining_tasks(planned(chunks))] == [False, True, True]
    assert [item.captures for item in remaining_tasks(planned(chunks, 2))] == [True]


def test_a_role_applies_to_the_statement_only() -> None:
    """Progress and ledger are written without it."""
    first = next(remaining_tasks(planned(["A"])))
    item = replace(first, role='a "b"')
    text = compose([item], TEMPLATE).text
    order = ["SET LOCAL ROLE NONE;", "EXECUTE", "INSERT m0", 'SET LOCAL ROLE "a ""b""";', "A\n;", "COMMIT;"]
    assert sorted(order, key=text.index) == order


def test_quoting() -> None:
    """Quotes are doubled; backslashes are literal for any server setting."""
    assert quote_text("it's") == "'it''s'"
    assert quote_text("a\\'b") == " E'a\\\\''b'"
    assert quote_name('a"b') == '"a""b"'


def test_values_of_the_compare_and_set_are_inserted_literally() -> None:
    """A dollar sign and digit in a value are not replaced as a parameter."""
    values = [f"'v{number}$2'" for number in range(1, 10)]
    text = advance(values)
    for value in values:
        assert value in text
    assert "'v1'v" not in text
    assert text.endswith(";")
