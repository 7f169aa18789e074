"""Reading of the audit log: pages by key, filtered by action, person and time, at a bounded cost.

A filter that few rows match would read a table of any size. Therefore a page inspects at most `WINDOW` rows; it says
where the next page begins, also if it found nothing. People who have been removed are named by the entry's details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection

from mosaic_gateway.auth.better_auth_format import iso

__all__ = ["ActivityFilter", "ActivityPage", "read_actions", "read_activity", "read_sign_ins"]

WINDOW = 20_000  # rows that one page inspects
SIGN_IN_ROWS = 100_000  # rows that the plot of sign-ins inspects
ACTION_ROWS = 10_000  # rows of which the distinct actions are listed
SIGN_IN = "sign-in.succeeded"
LARGEST_ID = (1 << 63) - 1  # bigint

#: The rows that a page inspects: the last of them, and how many there are.
FLOOR: LiteralString = """
SELECT min(id), count(*) FROM (SELECT id FROM audit_log WHERE id < %(before)s
    AND created_at >= coalesce(%(since)s, '-infinity'::timestamp)
    AND created_at < coalesce(%(until)s, 'infinity'::timestamp)
    ORDER BY id DESC LIMIT %(window)s) AS inspected
"""
PAGE: LiteralString = """
SELECT entry.id, entry.created_at, entry.action,
    coalesce(entry.actor_id, entry.details #>> '{actor,id}'), coalesce(actor.name, entry.details #>> '{actor,name}'),
    coalesce(actor.email, entry.details #>> '{actor,email}'),
    coalesce(entry.details #>> '{target,id}', entry.target), coalesce(target.name, entry.details #>> '{target,name}'),
    coalesce(target.email, entry.details #>> '{target,email}'),
    entry.ip_address, entry.details - '{actor,target}'::text[]
FROM audit_log AS entry
LEFT JOIN users AS actor ON actor.id = entry.actor_id
LEFT JOIN users AS target ON target.id = coalesce(entry.details #>> '{target,id}', entry.target)
WHERE entry.id >= %(floor)s AND entry.id < %(before)s
    AND entry.created_at >= coalesce(%(since)s, '-infinity'::timestamp)
    AND entry.created_at < coalesce(%(until)s, 'infinity'::timestamp)
    AND (%(action)s::text IS NULL OR entry.action = %(action)s)
    AND (%(person)s::text IS NULL OR strpos(lower(concat_ws(' ', actor.name, actor.email, target.name, target.email,
        entry.details #>> '{actor,name}', entry.details #>> '{actor,email}', entry.details #>> '{target,name}',
        entry.details #>> '{target,email}', entry.details ->> 'email')), lower(%(person)s)) > 0)
ORDER BY entry.id DESC LIMIT %(rows)s
"""
ACTIONS: LiteralString = """
SELECT DISTINCT action FROM (SELECT action FROM audit_log ORDER BY id DESC LIMIT %s) AS inspected ORDER BY action
"""
SIGN_INS: LiteralString = """
SELECT created_at::date, count(*) FILTER (WHERE action = %(action)s), count(*)
FROM (SELECT action, created_at FROM audit_log WHERE created_at >= %(since)s
    ORDER BY created_at DESC LIMIT %(rows)s) AS inspected
GROUP BY created_at::date
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityFilter:
    """What to list: one *action*, a part of the name or address of a *person*, a time. Times are UTC without zone."""

    action: str | None = None
    person: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """Entries as JSON objects, newest first; *older* is the id before which the next page begins, None at the end."""

    entries: tuple[dict[str, Any], ...]
    older: int | None


async def read_activity(
    connection: AsyncConnection, only: ActivityFilter, *, before: int | None, limit: int
) -> ActivityPage:
    """Return at most *limit* entries with ids below *before* (None: the newest)."""
    values: dict[str, Any] = {
        "before": LARGEST_ID if before is None else before, "window": WINDOW, "rows": limit + 1,
        "action": only.action, "person": only.person, "since": only.since, "until": only.until,
    }  # fmt: skip
    found = await (await connection.execute(FLOOR, values)).fetchone()
    if found is None or found[0] is None:
        return ActivityPage((), None)
    floor, inspected = found
    rows = await (await connection.execute(PAGE, {**values, "floor": floor})).fetchall()
    entries = tuple(_entry(row) for row in rows[:limit])
    if len(rows) > limit:
        return ActivityPage(entries, entries[-1]["id"])
    return ActivityPage(entries, floor if inspected == WINDOW else None)


async def read_actions(connection: AsyncConnection) -> tuple[str, ...]:
    """Return the actions of the newest entries, sorted."""
    rows = await (await connection.execute(ACTIONS, (ACTION_ROWS,))).fetchall()
    return tuple(row[0] for row in rows)


async def read_sign_ins(connection: AsyncConnection, *, today: date, days: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the sign-ins of each of the last *days* days (UTC), oldest first, and whether all of them were counted."""
    first = today - timedelta(days=days - 1)
    values = {"action": SIGN_IN, "since": datetime.combine(first, datetime.min.time()), "rows": SIGN_IN_ROWS}
    rows = await (await connection.execute(SIGN_INS, values)).fetchall()
    counts = {row[0]: row[1] for row in rows}
    dates = [first + timedelta(days=number) for number in range(days)]
    complete = sum(row[2] for row in rows) < SIGN_IN_ROWS
    return [{"day": day.isoformat(), "count": counts.get(day, 0)} for day in dates], complete


def _entry(row: Sequence[Any]) -> dict[str, Any]:
    number, at, action, actor_id, actor, actor_email, target_id, target, target_email, address, details = row
    return {
        "id": number,
        "at": iso(at),
        "action": action,
        "actor": _person(actor_id, actor, actor_email),
        "target": _person(target_id, target, target_email),
        "ipAddress": address or None,
        "details": details,
    }


def _person(user_id: str | None, name: str | None, email: str | None) -> dict[str, Any] | None:
    return None if user_id is None else {"id": user_id, "name": name, "email": email}
