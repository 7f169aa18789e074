"""Protection of sign-in over HTTP: limits across gateways, known devices, the queue of hashes, log and audit log."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from tests.support.http_gateway import Answer, Gateway

from mosaic_gateway.auth import accounts

SIGN_IN = "/api/auth/sign-in/email"
OWNER, PASSWORD = "owner@example.com", "correct horse battery staple"
REFUSED = {"message": "Too many requests. Please try again later."}


@dataclass(slots=True)
class Gate:
    """Hashes wait until it is opened; *calls* counts those that began."""

    opened: threading.Event = field(default_factory=threading.Event)
    calls: int = 0


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway with one user."""
    accounts.create_user(http_gateway.conninfo, name="Owner", email=OWNER, password=PASSWORD)
    return http_gateway


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate before each hash."""
    gate, derive = Gate(), hashlib.scrypt

    def scrypt(password: bytes, **parameters: Any) -> bytes:
        gate.calls += 1
        assert gate.opened.wait(20)
        return derive(password, **parameters)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    yield gate
    gate.opened.set()


def sign_in(gateway: Gateway, email: str = OWNER, password: str = PASSWORD, cookie: str = "") -> Answer:
    """Sign in, as a browser does; *cookie* is its Cookie header."""
    headers = {"cookie": cookie} if cookie else {}
    return gateway.post(SIGN_IN, {"email": email, "password": password}, origin=gateway.origin, **headers)


def attack(gateway: Gateway, email: str = OWNER, *, attempts: int = 3) -> list[tuple[int, str | None]]:
    """Try wrong passwords from as many addresses; return status and X-Retry-After of each."""
    answers = [sign_in(gateway.elsewhere(), email, "wrong") for _ in range(attempts)]
    return [(answer.status, answer.headers.get("x-retry-after")) for answer in answers]


def test_fourth_sign_in_from_an_address(gateway: Gateway) -> None:
    """It is refused with better-auth's body and header, whatever the accounts are, and others are served."""
    for number in range(3):
        assert sign_in(gateway, f"user{number}@example.com").status == 401
    answer = sign_in(gateway)
    assert (answer.status, answer.json) == (429, REFUSED)
    assert int(answer.headers["x-retry-after"]) in {9, 10}
    assert gateway.get("/api/auth/ok").json == {"ok": True}
    assert sign_in(gateway.elsewhere()).status == 200


def test_limits_hold_across_gateways(
    http_database: str, http_run: Callable[..., AbstractContextManager[Gateway]]
) -> None:
    """Three gateways on one database accept three sign-ins of an address together, of twelve at once."""
    with ExitStack() as stack, ThreadPoolExecutor(12) as threads:
        gateways = [stack.enter_context(http_run(http_database)) for _ in range(3)] * 4
        emails = [f"user{number}@example.com" for number in range(12)]
        statuses = [answer.status for answer in threads.map(sign_in, gateways, emails)]
    assert sorted(statuses) == [401] * 3 + [429] * 9


def test_owner_signs_in_from_a_known_device_during_an_attack(gateway: Gateway) -> None:
    """An attack from many addresses delays unknown devices, not the owner's, whose success does not end the delays."""
    device = sign_in(gateway.elsewhere()).cookie
    assert attack(gateway, attempts=3) == [(401, None)] * 3
    [(status, seconds)] = attack(gateway, attempts=1)
    assert (status, seconds) in {(429, "10"), (429, "9")}
    assert sign_in(gateway.elsewhere()).status == 429
    assert sign_in(gateway.elsewhere(), cookie=device).status == 200
    assert attack(gateway, attempts=1)[0][0] == 429
    gateway.sql("UPDATE rate_limits SET last_request = last_request - 10000")
    assert sign_in(gateway.elsewhere()).status == 200  # an unknown device with the password, after the pause
    assert attack(gateway, attempts=1) == [(401, None)]


def test_a_known_device_is_limited_too_and_known_for_its_account_only(gateway: Gateway) -> None:
    """A copied cookie does not help to guess, neither its account's password nor another's."""
    accounts.create_user(gateway.conninfo, name="Other", email="other@example.com", password=PASSWORD)
    device = sign_in(gateway.elsewhere()).cookie
    assert [sign_in(gateway.elsewhere(), password="wrong", cookie=device).status for _ in range(4)] == [
        401, 401, 401, 429,
    ]  # fmt: skip
    assert sign_in(gateway.elsewhere()).status == 200
    attack(gateway, "other@example.com")
    for cookie in (device, device.replace("known_device=device", "known_device=deviice")):
        assert sign_in(gateway.elsewhere(), "other@example.com", cookie=cookie).status == 429


def test_unknown_accounts_are_limited_like_known_ones(gateway: Gateway) -> None:
    """The same statuses in the same order: the limits do not reveal whether an account exists."""
    series = []
    for email in (OWNER, "unknown@example.com"):
        answers = [status for status, _ in attack(gateway, email, attempts=5)]
        gateway.sql("UPDATE rate_limits SET last_request = last_request - 10000")
        series.append(answers + [status for status, _ in attack(gateway, email, attempts=4)])
    assert series == [[401, 401, 401, 429, 429, 401, 401, 401, 429]] * 2


def test_set_up_is_limited(http_gateway: Gateway) -> None:
    """The fourth set-up from an address is refused, even with the valid token, and a wrong token is recorded."""
    person = {"name": "Ada", "email": "ada@example.com", "password": "long enough"}
    answers = [http_gateway.post("/api/bootstrap/setup", person, x_setup_token="wrong") for _ in range(3)]
    assert [answer.status for answer in answers] == [403] * 3
    answer = http_gateway.post("/api/bootstrap/setup", person, x_setup_token=http_gateway.token())
    assert (answer.status, answer.json) == (429, REFUSED)
    assert records(http_gateway) == [("sign-in.failed", None, {"code": "SETUP_TOKEN_INVALID"})] * 3 + [
        ("sign-in.refused", None, {"path": "/bootstrap/setup", "limit": "address"})
    ]


def records(gateway: Gateway) -> list[tuple[Any, ...]]:
    """Return action, target and details (without the people's names) of the audit log's sign-ins, oldest first."""
    details = "details - '{actor,target}'::text[]"
    return gateway.sql(f"SELECT action, target, {details} FROM audit_log WHERE action LIKE 'sign-in.%%' ORDER BY id")


def test_attempts_are_recorded(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Successes and failures are in the audit log, failures in the log with the address and nothing that was sent."""
    caplog.set_level(logging.INFO)
    [(user,)] = gateway.sql("SELECT id FROM users")
    client = gateway.elsewhere()
    assert sign_in(client).status == 200
    assert sign_in(client, password="s3cret wrong").status == 401
    assert sign_in(client, "unknown@example.com", "s3cret wrong").status == 401
    assert sign_in(client, "unknown@example.com", "s3cret wrong").status == 429
    gateway.sql("UPDATE users SET banned = true")
    assert sign_in(gateway.elsewhere()).status == 403
    wrong = {"code": "INVALID_EMAIL_OR_PASSWORD"}
    assert records(gateway) == [
        ("sign-in.succeeded", user, {}),
        ("sign-in.failed", user, wrong),
        ("sign-in.failed", None, wrong),
        ("sign-in.refused", None, {"path": "/sign-in/email", "limit": "address"}),
        ("sign-in.failed", user, {"code": "BANNED_USER"}),
    ]
    assert gateway.sql("SELECT DISTINCT ip_address FROM audit_log WHERE action = 'sign-in.succeeded'") == [
        (client.address,)
    ]
    lines = [record.getMessage() for record in caplog.records if record.name == "mosaic_gateway.sign_in"]
    assert lines[:3] == [
        f"Sign-in failed: address={client.address} code=INVALID_EMAIL_OR_PASSWORD",
        f"Sign-in failed: address={client.address} code=INVALID_EMAIL_OR_PASSWORD",
        f"Sign-in failed: address={client.address} code=TOO_MANY_REQUESTS",
    ]
    assert "s3cret" not in caplog.text
    assert "@example.com" not in caplog.text


def test_a_flood_does_not_fill_the_audit_log(gateway: Gateway) -> None:
    """Of refused attempts 20 are recorded, and one of an address; of failed ones 100, in one process."""
    for _ in range(25):
        attack(gateway, "user@example.com", attempts=1)
    assert gateway.sql("SELECT count(*) FROM audit_log WHERE action = 'sign-in.refused'") == [(20,)]
    client = gateway.elsewhere()
    answers = [sign_in(client, f"user{number}@example.com", "wrong") for number in range(7)]
    assert [answer.status for answer in answers] == [401] * 3 + [429] * 4
    assert {answer.headers["x-retry-after"] for answer in answers[3:]} <= {"10", "9", "8"}
    assert gateway.sql("SELECT count(*) FROM audit_log WHERE action = 'sign-in.refused'") == [(20,)]


def test_a_refused_address_does_not_ask_the_database_again(gateway: Gateway) -> None:
    """It is refused by the process that refused it, until its time has come, and by the database again after that."""
    statuses = [sign_in(gateway, f"user{number}@example.com", "wrong").status for number in range(4)]
    assert statuses == [401] * 3 + [429]
    with psycopg.connect(gateway.conninfo) as connection:
        connection.execute("LOCK TABLE rate_limits")
        assert sign_in(gateway).status == 429
    assert records(gateway)[-1][0] == "sign-in.refused"
    assert [action for action, *_ in records(gateway)].count("sign-in.refused") == 1


def pending(gateway: Gateway, number: int) -> socket.socket:
    """Send a sign-in from an address and for an account of its own, and return the socket, unread."""
    client = gateway.elsewhere()
    body = json.dumps({"email": f"user{number}@example.com", "password": "wrong"})
    head = f"POST {SIGN_IN} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", gateway.port), 10, source_address=(client.address, 0))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


def wait_for_attempts(gateway: Gateway, number: int) -> None:
    """Wait until *number* sign-ins have been counted, and the loop has gone on to their hashes."""
    deadline = time.monotonic() + 20
    while gateway.sql("SELECT count(*) FROM rate_limits WHERE key LIKE 'account:%%'") != [(number,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(5):
        gateway.get("/readyz")


def test_abandoned_sign_ins_are_not_hashed(gateway: Gateway, gate: Gate) -> None:
    """After 40 sign-ins whose clients have gone, the next one is the next to be hashed."""
    connections = [pending(gateway, number) for number in range(40)]
    wait_for_attempts(gateway, 40)
    for connection in connections:
        connection.close()
    for _ in range(5):
        gateway.get("/readyz")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(sign_in, gateway.elsewhere())
        wait_for_attempts(gateway, 41)
        gate.opened.set()
        assert answer.result().status == 200
    assert gate.calls == 3  # two had begun


def test_queue_of_hashes_is_bounded(gateway: Gateway, gate: Gate) -> None:
    """While 34 sign-ins are hashed or wait, the next gets 503 with Retry-After; a place that is left can be taken."""
    connections = [pending(gateway, number) for number in range(34)]
    wait_for_attempts(gateway, 34)
    answer = sign_in(gateway.elsewhere(), "another@example.com")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "TOO_BUSY", "1")
    assert gateway.get("/healthz").status == 200
    last = connections.pop()
    for connection in connections:
        connection.close()
    gate.opened.set()
    assert last.recv(12) == b"HTTP/1.1 401"
    last.close()


def test_a_session_token_is_no_device_and_a_device_no_session(gateway: Gateway) -> None:
    """The signed values of the two cookies cannot be exchanged."""
    session, device = (pair.partition("=")[2] for pair in sign_in(gateway).cookie.split("; "))
    assert gateway.get("/api/auth/get-session", cookie=f"better-auth.session_token={device}").body == b"null"
    attack(gateway)
    assert sign_in(gateway.elsewhere(), cookie=f"better-auth.known_device={session}").status == 429
    assert sign_in(gateway.elsewhere(), cookie=f"better-auth.known_device={device}").status == 200


def test_the_device_is_known_after_set_up(http_gateway: Gateway) -> None:
    """The browser that created the first admin is known."""
    person = {"name": "Ada", "email": OWNER, "password": PASSWORD}
    answer = http_gateway.post("/api/bootstrap/setup", person, x_setup_token=http_gateway.token())
    attack(http_gateway)
    assert sign_in(http_gateway.elsewhere(), cookie=answer.cookie).status == 200
    assert sign_in(http_gateway.elsewhere()).status == 429
