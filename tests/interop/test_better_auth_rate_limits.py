"""The limits of addresses are better-auth's, and are counted together with those of a better-auth on one database."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.interop.drizzle import HERE
from tests.support.http_gateway import SECRET, Answer, Gateway, run_gateway
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.auth.rate_limits import normal_address
from mosaic_gateway.migrations import Bundle, migrate

SIGN_IN = "/api/auth/sign-in/email"
#: Refused as INVALID_EMAIL by better-auth, after it has been counted.
BODY = {"email": "invalid", "password": "x"}
ADDRESSES = ("192.0.2.7", "::ffff:192.0.2.8", "::ffff:c000:209", "2001:DB8:1:2:3:4:5:6", "2001:db8::1", "::1")


@pytest.fixture(scope="module")
def gateway(postgres_server: PostgresServer) -> Iterator[Gateway]:
    """A gateway on a database of its own."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    with run_gateway(postgres_server.conninfo(name)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def better_auth(_modules: Path, gateway: Gateway) -> Iterator[Gateway]:
    """A better-auth on the same database."""
    parts = psycopg.conninfo.conninfo_to_dict(gateway.conninfo)
    connection = {"database" if key == "dbname" else key: value for key, value in parts.items()}
    process = subprocess.Popen(
        ["node", HERE / "rate_limits.mjs", _modules, json.dumps(connection), SECRET.reveal()],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Gateway(gateway.conninfo, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def ask(better_auth: Gateway, address: str) -> Answer:
    """Send a sign-in to better-auth from *address*."""
    return better_auth.post(SIGN_IN, BODY, x_forwarded_for=address)


@pytest.mark.parametrize("first", ["gateway", "better-auth"])
def test_requests_to_both_are_counted_together(gateway: Gateway, better_auth: Gateway, first: str) -> None:
    """Three requests to one or the other are accepted; then both refuse, with the same status, body and header."""
    client = gateway.elsewhere()

    def ask_gateway() -> Answer:
        return client.post(SIGN_IN, {"email": "unknown@example.com", "password": "wrong"})

    def ask_better_auth() -> Answer:
        return ask(better_auth, client.address)

    calls = [ask_gateway, ask_better_auth] if first == "gateway" else [ask_better_auth, ask_gateway]
    statuses = [calls[number % 2]().status for number in range(3)]
    assert set(statuses) == {400, 401}
    answers = [ask_gateway(), ask_better_auth()]
    assert [(answer.status, answer.json) for answer in answers] == [
        (429, {"message": "Too many requests. Please try again later."})
    ] * 2
    assert all(5 <= int(answer.headers["x-retry-after"]) <= 10 for answer in answers)


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_have_the_same_keys(gateway: Gateway, better_auth: Gateway, address: str) -> None:
    """better-auth writes the row of an address under the key that the gateway uses."""
    gateway.sql("DELETE FROM rate_limits")
    assert ask(better_auth, address).status == 400
    assert gateway.sql("SELECT key FROM rate_limits") == [(f"{normal_address(address)}|/sign-in/email",)]
