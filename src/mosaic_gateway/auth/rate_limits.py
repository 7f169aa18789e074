"""Limits of requests, counted in the table ``rate_limits`` as better-auth counts (its ``api/rate-limiter``).

An address: `MAX` requests in `WINDOW` for each path, under better-auth's key ``address|path``, so that a better-auth on
the same database counts the same requests. An account: after each `MAX` attempts without a success a pause of `WINDOW`,
which doubles from the fourth pause on, up to `LONGEST`; its key is a digest.

One statement counts a request or refuses it; a refusal is found by reading, so a flood writes nothing. The times are
the database's, in milliseconds since 1970. A time in the future is left from a clock that was set back, and refuses no
longer than one in the past.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from psycopg import AsyncConnection

from mosaic_gateway.auth.better_auth_format import new_id

__all__ = ["FORGET", "NOW", "Refusal", "consume", "forget", "normal_address"]

UNKNOWN_ADDRESS = "no-trusted-ip"  # better-auth's key for requests without an address
SUBNET = 64  # bits of an IPv6 address; one client has all addresses of such a network
MAX = 3
WINDOW = 10_000  # milliseconds
STEADY = 3  # pauses before they double
DOUBLINGS = 7  # WINDOW * 2 ** 7 is longer than LONGEST
LONGEST = 900_000  # milliseconds
FORGET = 3_600_000  # milliseconds after the last attempt, when an account's attempts are forgotten

NOW = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
AGE = f"abs({NOW} - r.last_request)"
#: Milliseconds after its last request for which a row refuses the next one.
ADDRESS_PAUSE = f"CASE WHEN r.count < {MAX} THEN 0 ELSE {WINDOW} END"
ACCOUNT_PAUSE = (
    f"CASE WHEN mod(r.count, {MAX}) <> 0 THEN 0 ELSE"
    f" least({WINDOW} * 2 ^ least(greatest(r.count / {MAX} - {STEADY}, 0), {DOUBLINGS}), {LONGEST})::bigint END"
)


#: Counts a request in the row of the parameter *name*; returns no row if it refuses.
COUNT = (
    "INSERT INTO rate_limits AS r (id, key, count, last_request) SELECT %({name}_id)s, %({name})s, 1, {now}"
    " WHERE {condition}"
    " AND NOT EXISTS (SELECT FROM rate_limits r WHERE r.key = %({name})s AND {age} < {pause})"
    " ON CONFLICT (key) DO UPDATE SET last_request = excluded.last_request,"
    " count = CASE WHEN {age} < {window} THEN r.count + 1 ELSE 1 END"
    " WHERE {age} >= {pause} RETURNING 1"
)
WAIT = "(SELECT {pause} - {age} FROM rate_limits r WHERE r.key = %({name})s)"
ADDRESS = {"name": "address", "pause": ADDRESS_PAUSE, "window": WINDOW, "condition": "true", "now": NOW, "age": AGE}
ACCOUNT = {"name": "account", "pause": ACCOUNT_PAUSE, "window": FORGET, "now": NOW, "age": AGE}
ACCOUNT["condition"] = "EXISTS (SELECT FROM address)"
CONSUME_ADDRESS = (
    f"WITH address AS ({COUNT.format(**ADDRESS)})"  # noqa: S608 - constants only
    f" SELECT EXISTS (SELECT FROM address), {WAIT.format(**ADDRESS)}, true, 0"
).encode()
CONSUME_BOTH = (
    f"WITH address AS ({COUNT.format(**ADDRESS)}), account AS ({COUNT.format(**ACCOUNT)})"  # noqa: S608 - the same
    f" SELECT EXISTS (SELECT FROM address), {WAIT.format(**ADDRESS)},"
    f" EXISTS (SELECT FROM account), {WAIT.format(**ACCOUNT)}"
).encode()
FORGET_ATTEMPTS = "DELETE FROM rate_limits WHERE key = %s"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request: the *limit* it exceeds, and the seconds until another can be accepted."""

    limit: Literal["address", "account"]
    seconds: int


def normal_address(address: str) -> str:
    """Return *address* as better-auth's keys have it: IPv6 as its network of 64 bits, written in full."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return ipaddress.IPv6Network((parsed, SUBNET), strict=False).network_address.exploded


async def consume(
    connection: AsyncConnection, path: str, *, address: str, account: str | None = None
) -> Refusal | None:
    """Count a request for *path* from *address*, as `normal_address` returns it, and for *account*, or refuse it.

    A request that *address* may not send is not counted for *account*.
    """
    values = {"address": f"{address}|{path}", "address_id": new_id()}
    if account is not None:
        values |= {"account": f"{account}|{path}", "account_id": new_id()}
    cursor = await connection.execute(CONSUME_ADDRESS if account is None else CONSUME_BOTH, values)
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError
    by_address, address_wait, by_account, account_wait = row
    if not by_address:
        return Refusal("address", _seconds(address_wait))
    return None if by_account else Refusal("account", _seconds(account_wait))


async def forget(connection: AsyncConnection, path: str, account: str) -> None:
    """Forget the attempts on *account* at *path*, after a success."""
    await connection.execute(FORGET_ATTEMPTS, (f"{account}|{path}",))


def _seconds(milliseconds: int | None) -> int:
    """Return the seconds to wait; a row that a concurrent request has just filled is not seen, or as it was before."""
    return -(-milliseconds // 1000) if milliseconds and milliseconds > 0 else WINDOW // 1000
