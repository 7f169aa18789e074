"""The statement that counts requests, on a real server: better-auth's rule for addresses, pauses of accounts."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import pytest

from mosaic_gateway.auth import rate_limits
from mosaic_gateway.auth.rate_limits import Refusal, normal_address

PATH = "/sign-in/email"
DAY = 86_400_000  # milliseconds


class Limits:
    """Calls of `consume`, and the rows of the table."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo

    def consume(self, *requests: tuple[str, str | None]) -> list[Refusal | None]:
        """Send *requests* (address and account) at once, each on a connection of its own."""

        async def one(address: str, account: str | None) -> Refusal | None:
            async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
                return await rate_limits.consume(connection, PATH, address=address, account=account)

        async def every() -> list[Refusal | None]:
            return await asyncio.gather(*(one(*request) for request in requests))

        return asyncio.run(every())

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run *statement*."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def age(self, milliseconds: int) -> None:
        """Let *milliseconds* pass, for the rows; negative: set the clock back."""
        self.sql("UPDATE rate_limits SET last_request = last_request - %s", milliseconds)


@pytest.fixture
def limits(http_database: str) -> Limits:
    """A new database."""
    return Limits(http_database)


def test_three_requests_of_an_address_in_ten_seconds(limits: Limits) -> None:
    """The fourth is refused, without a write, until ten seconds after the third; other addresses are not."""
    assert [limits.consume(("192.0.2.1", None))[0] for _ in range(3)] == [None] * 3
    row = limits.sql("SELECT key, count, last_request, xmin::text, xmax::text FROM rate_limits")
    assert row[0][:2] == ("192.0.2.1|/sign-in/email", 3)
    assert limits.consume(("192.0.2.1", None)) == [Refusal("address", 10)]
    assert limits.sql("SELECT key, count, last_request, xmin::text, xmax::text FROM rate_limits") == row
    assert limits.consume(("192.0.2.2", None)) == [None]
    limits.age(7500)
    assert limits.consume(("192.0.2.1", None)) == [Refusal("address", 3)]
    limits.age(2500)
    assert limits.consume(("192.0.2.1", None)) == [None]
    assert limits.sql("SELECT count FROM rate_limits WHERE key LIKE '192.0.2.1|%%'") == [(1,)]


def test_concurrent_requests_are_counted_exactly(limits: Limits) -> None:
    """Of 20 requests at once of one address three are accepted, of 20 addresses three for one account."""
    accepted = [refusal for refusal in limits.consume(*[("192.0.2.1", None)] * 20) if refusal is None]
    assert len(accepted) == 3
    answers = limits.consume(*((f"198.51.100.{number}", "account:a") for number in range(20)))
    assert Counter(answer and answer.limit for answer in answers) == {None: 3, "account": 17}
    assert limits.sql("SELECT count FROM rate_limits WHERE key = 'account:a|/sign-in/email'") == [(3,)]


def test_a_refused_address_does_not_count_for_the_account(limits: Limits) -> None:
    """An address that is refused cannot delay an account further."""
    for account in ("a", "b", "c", "d", "e"):
        limits.consume(("192.0.2.1", f"account:{account}"))
    assert limits.sql("SELECT key FROM rate_limits WHERE key LIKE 'account:%%' ORDER BY key") == [
        (f"account:{account}|/sign-in/email",) for account in ("a", "b", "c")
    ]


def test_pauses_of_an_account_grow(limits: Limits) -> None:
    """After each three attempts a pause: ten seconds three times, then twice as long each time, 15 minutes at most."""
    pauses, number = [], 0
    for _ in range(11):
        for _ in range(3):
            number += 1
            assert limits.consume((f"192.0.2.{number}", "account:a")) == [None]
        number += 1
        [refusal] = limits.consume((f"192.0.2.{number}", "account:a"))
        assert refusal is not None
        pauses.append(refusal.seconds)
        limits.age(refusal.seconds * 1000)
    assert pauses == [10, 10, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_attempts_on_an_account_are_forgotten(limits: Limits) -> None:
    """After an hour without attempts, or after a success, the pauses begin anew."""
    for number in range(12):
        limits.consume((f"192.0.2.{number}", "account:a"))
        limits.age(11_000)
    limits.age(rate_limits.FORGET)
    assert limits.consume(("192.0.2.50", "account:a")) == [None]
    assert limits.sql("SELECT count FROM rate_limits WHERE key LIKE 'account:%%'") == [(1,)]

    async def forget(conninfo: str) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await rate_limits.forget(connection, PATH, "account:a")

    asyncio.run(forget(limits.conninfo))
    assert limits.sql("SELECT count FROM rate_limits WHERE key LIKE 'account:%%'") == []


@pytest.mark.parametrize("days", [1, -1], ids=["forward", "back"])
def test_a_clock_set_by_a_day_refuses_no_one(limits: Limits, days: int) -> None:
    """A full row of an address and of an account is expired if its time is a day away, in the past or the future."""
    for _ in range(4):
        limits.consume(("192.0.2.1", "account:a"))
    limits.age(days * DAY)
    assert [limits.consume(("192.0.2.1", "account:a"))[0] for _ in range(4)] == [None] * 3 + [Refusal("address", 10)]


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:1:2:3:4:5:6", "2001:0db8:0001:0002:0000:0000:0000:0000"),
        ("::1", "0000:0000:0000:0000:0000:0000:0000:0000"),
        ("fe80::1%eth0", "fe80:0000:0000:0000:0000:0000:0000:0000"),
        ("", "no-trusted-ip"),
        ("testclient", "no-trusted-ip"),
    ],
)
def test_addresses_are_those_of_better_auths_keys(address: str, normal: str) -> None:
    """IPv6 counts by its network of 64 bits; better-auth's normalizeIP returns the same."""
    assert normal_address(address) == normal
