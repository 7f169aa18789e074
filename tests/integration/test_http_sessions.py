"""Sessions over HTTP: extension, expiry, deletion of expired rows, revocation during a request, clocks set by a day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.support.http_gateway import SECRET, Answer, Gateway, RunGateway
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.auth import accounts
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.gateway.database import Database, make_pool
from mosaic_gateway.gateway.sweep import sweep

SESSION = "/api/auth/get-session"
SIGN_IN = "/api/auth/sign-in/email"
SIGN_UP = "/api/auth/sign-up/email"
EMAIL, PASSWORD = "asa@example.com", "correct horse battery staple"
CLEARED = tuple(
    f"better-auth.{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    for name in ("session_token", "session_data", "dont_remember")
)
COOKIES = Cookies(SECRET, "http://127.0.0.1")
TOKEN = "token1"
COOKIE = COOKIES.signed_in(TOKEN, remember=True)[0].split(";")[0]
SHORT = "; ".join(cookie.split(";")[0] for cookie in COOKIES.signed_in(TOKEN, remember=False))
NOW = "(now() AT TIME ZONE 'UTC')"


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway with a user."""
    accounts.create_user(http_gateway.conninfo, name="Åsa", email=EMAIL, password=PASSWORD)
    return http_gateway


@pytest.fixture(scope="module")
def callback_gateway(postgres_server: PostgresServer, http_template: str, http_run: RunGateway) -> Iterator[Gateway]:
    """A gateway that trusts another origin, with a user."""
    database = postgres_server.create_database(template=http_template, prefix="http")
    with http_run(postgres_server.conninfo(database), trusted_origins=("https://app.example.com",)) as gateway:
        accounts.create_user(gateway.conninfo, name="Åsa", email=EMAIL, password=PASSWORD)
        yield gateway


def add_session(gateway: Gateway, ends: str, token: str = TOKEN) -> None:
    """Insert a session that was last written a day before and ends in the interval *ends*."""
    gateway.sql(
        "INSERT INTO sessions (id, token, user_id, expires_at, created_at, updated_at)"
        f" SELECT %s, %s, id, {NOW} + %s::interval, {NOW} - interval '1 day', {NOW} - interval '1 day' FROM users",
        f"id of {token}", token, ends,
    )  # fmt: skip


def times(gateway: Gateway) -> tuple[float, float]:
    """Return in how many days the session ends, and how many days ago it was written."""
    [(ends, written)] = gateway.sql(f"SELECT expires_at - {NOW}, {NOW} - updated_at FROM sessions")
    return round(ends.total_seconds() / 86400, 2), round(written.total_seconds() / 86400, 2)


def sign_in(gateway: Gateway, cookie: str = "", **fields: object) -> Answer:
    """Sign in with *fields* in the body too."""
    headers = {"cookie": cookie} if cookie else {}
    return gateway.post(SIGN_IN, {"email": EMAIL, "password": PASSWORD, **fields}, origin=gateway.origin, **headers)


def test_a_used_session_is_extended(gateway: Gateway) -> None:
    """A session that ends in less than six days ends in seven after its use; the same cookie is sent again."""
    add_session(gateway, "5 days 23 hours 59 minutes")
    answer = gateway.get(SESSION, cookie=COOKIE)
    assert answer.cookies == tuple(COOKIES.signed_in(TOKEN, remember=True))
    assert times(gateway) == (7.0, 0.0)
    [(ends, written)] = gateway.sql("SELECT expires_at, updated_at FROM sessions")
    session = answer.json["session"]
    for key, moment in (("expiresAt", ends), ("updatedAt", written)):
        assert session[key] == moment.isoformat(timespec="milliseconds") + "Z"
    again = gateway.get(SESSION, cookie=COOKIE)
    assert (again.json, again.cookies) == (answer.json, ())


def test_a_bearer_token_extends_its_session(gateway: Gateway) -> None:
    """It is a session like another."""
    add_session(gateway, "1 day")
    answer = gateway.get(SESSION, authorization=f"Bearer {COOKIES.bearer(TOKEN)}")
    assert answer.cookies == tuple(COOKIES.signed_in(TOKEN, remember=True))
    assert times(gateway) == (7.0, 0.0)


@pytest.mark.parametrize(
    ("ends", "cookie", "query"),
    [("6 days 1 minute", COOKIE, ""), ("23 hours", SHORT, ""), ("23 hours", COOKIE, "?disableRefresh=true")],
    ids=["early", "not remembered", "unwanted"],
)
def test_a_session_that_is_not_extended(gateway: Gateway, ends: str, cookie: str, query: str) -> None:
    """Within a day of the last extension, and with ``rememberMe: false`` or ``disableRefresh``, nothing is written."""
    add_session(gateway, ends)
    before = gateway.sql("SELECT * FROM sessions")
    answer = gateway.get(SESSION + query, cookie=cookie)
    assert answer.json["user"]["email"] == EMAIL
    assert answer.cookies == ()
    assert gateway.sql("SELECT * FROM sessions") == before


def test_a_sign_in_ends_not_being_remembered(gateway: Gateway) -> None:
    """After a sign-in with ``rememberMe`` the cookie of an earlier one without is deleted, or nothing were extended."""
    short = sign_in(gateway, rememberMe=False)
    assert "better-auth.dont_remember=true." in short.cookie
    cookies = sign_in(gateway, cookie=short.cookie).cookies
    assert cookies[-1] == "better-auth.dont_remember=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(("days", "signed_in"), [(1, True), (-1, True), (8, False)], ids=["forward", "back", "far"])
def test_a_clock_that_is_set(gateway: Gateway, days: int, signed_in: bool) -> None:
    """A day forward or back ends no session of seven days, and the user can sign in; nor does the sweep delete one."""
    cookie = sign_in(gateway).cookie
    gateway.sql(
        "UPDATE sessions SET expires_at = expires_at - %s * interval '1 day',"
        " created_at = created_at - %s * interval '1 day', updated_at = updated_at - %s * interval '1 day'",
        days, days, days,
    )  # fmt: skip
    gateway.sql("UPDATE rate_limits SET last_request = last_request - %s::bigint * 86400000", days)
    asyncio.run(swept(gateway.conninfo))
    assert (gateway.get(SESSION, cookie=cookie).json is not None) is signed_in
    assert sign_in(gateway).status == 200


def test_a_session_revoked_while_it_is_extended(gateway: Gateway) -> None:
    """A request that has found its session, and waits to extend it while it is deleted, is not signed in."""
    add_session(gateway, "1 day")
    with psycopg.connect(gateway.conninfo) as revoking, ThreadPoolExecutor(1) as threads:
        revoking.execute("DELETE FROM sessions")
        answer = threads.submit(gateway.get, SESSION, cookie=COOKIE)
        wait_for_lock(gateway)
        revoking.commit()
        got = answer.result()
    assert (got.status, got.body, got.cookies) == (200, b"null", CLEARED)
    assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]


def test_a_user_removed_during_a_sign_in(gateway: Gateway) -> None:
    """A sign-in that has checked the password of a user who is then deleted gets 401 and no session."""
    with psycopg.connect(gateway.conninfo) as removing, ThreadPoolExecutor(1) as threads:
        removing.execute("DELETE FROM users")
        answer = threads.submit(sign_in, gateway)
        wait_for_lock(gateway)
        removing.commit()
        got = answer.result()
    assert (got.status, got.json["code"], got.cookies) == (401, "INVALID_EMAIL_OR_PASSWORD", ())
    assert gateway.sql("SELECT action FROM audit_log WHERE action LIKE 'sign-in%%'") == [("sign-in.failed",)]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ("UPDATE users SET banned = true", 403, "BANNED_USER"),
        ("UPDATE accounts SET password = '0:0'", 401, "INVALID_EMAIL_OR_PASSWORD"),
    ],
)
def test_a_user_banned_or_reset_during_a_sign_in(gateway: Gateway, change: str, status: int, code: str) -> None:
    """A ban and a new password end the sessions, and a sign-in that began before with the old password gets none."""
    with psycopg.connect(gateway.conninfo) as changing, ThreadPoolExecutor(1) as threads:
        changing.execute(change.encode())
        answer = threads.submit(sign_in, gateway)
        wait_for_lock(gateway)
        changing.commit()
        got = answer.result()
    assert (got.status, got.json["code"], got.cookies) == (status, code, ())
    assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]


def wait_for_lock(gateway: Gateway) -> None:
    """Wait until a statement of the gateway waits for another transaction."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 10
    while gateway.sql(waiting) != [(1,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def swept(conninfo: str) -> None:
    """Sweep once."""
    pool = make_pool(conninfo)
    await pool.open(wait=True)
    await sweep(Database(pool))
    await pool.close()


def test_expired_rows_are_deleted(gateway: Gateway) -> None:
    """A running gateway deletes expired sessions, old counts, and old records of failures, however many; no others."""
    gateway.sql(
        "INSERT INTO sessions (id, token, user_id, expires_at, updated_at)"
        f" SELECT 's' || n, 't' || n, users.id, {NOW} - interval '25 hours', {NOW}"
        " FROM users, generate_series(1, 1200) n"
    )
    add_session(gateway, "-23 hours", "expired yesterday")
    add_session(gateway, "1 hour", "valid")
    gateway.sql(
        "INSERT INTO rate_limits (id, key, count, last_request) SELECT 'r' || hours, 'key' || hours, 1,"
        " (extract(epoch FROM now()) * 1000)::bigint - hours * 3600000 FROM unnest(ARRAY[-2, 0, 2]) hours"
    )
    gateway.sql(
        "INSERT INTO audit_log (action, created_at) SELECT action, now() - days * interval '1 day'"
        " FROM unnest(ARRAY[89, 91]) days,"
        " unnest(ARRAY['sign-in.failed', 'sign-in.refused', 'sign-in.succeeded', 'user.create']) action"
    )
    asyncio.run(swept(gateway.conninfo))
    assert gateway.sql("SELECT token FROM sessions ORDER BY token") == [("expired yesterday",), ("valid",)]
    assert gateway.sql("SELECT key FROM rate_limits") == [("key0",)]
    assert gateway.sql(
        "SELECT action FROM audit_log WHERE created_at < now() - interval '90 days' ORDER BY action"
    ) == [("sign-in.succeeded",), ("user.create",)]
    assert gateway.sql("SELECT count(*) FROM audit_log WHERE created_at < now() - interval '80 days'") == [(6,)]


def test_a_gateway_sweeps_soon_after_its_start(gateway: Gateway) -> None:
    """Without being asked."""
    add_session(gateway, "-2 days")
    deadline = time.monotonic() + 20
    while gateway.sql("SELECT count(*) FROM sessions") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_sweep_waits_for_no_connection(http_database: str) -> None:
    """While all connections are in use, nothing is deleted."""

    async def sweep_while_busy() -> int:
        pool = make_pool(http_database)
        await pool.open(wait=True)
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO rate_limits VALUES ('id', 'key', 1, 0)")
            await sweep(Database(pool))
            left = (await connection.execute("SELECT FROM rate_limits")).rowcount
        await pool.close()
        return left

    assert asyncio.run(sweep_while_busy()) == 1
    asyncio.run(swept(http_database))
    with psycopg.connect(http_database) as connection:
        assert connection.execute("SELECT FROM rate_limits").rowcount == 0


def test_a_long_user_agent_is_cut(gateway: Gateway) -> None:
    """512 characters are stored."""
    gateway.post(SIGN_IN, {"email": EMAIL, "password": PASSWORD}, user_agent="x" * 20_000)
    assert gateway.sql("SELECT user_agent FROM sessions") == [("x" * 512,)]


@pytest.mark.parametrize(
    "url", ["/", "/dash?next=%2F#top", "/é", "https://app.example.com/x", "https://APP.example.com:443"]
)
def test_trusted_callback(callback_gateway: Gateway, url: str) -> None:
    """A path, and a URL of a trusted origin, are answered, with a Location that a header can hold."""
    answer = sign_in(callback_gateway.elsewhere(), callbackURL=url)
    assert (answer.status, list(answer.json)) == (200, ["redirect", "token", "url", "user"])
    assert (answer.json["redirect"], answer.json["url"]) == (True, url)
    assert answer.headers["location"] == url.replace("é", "%C3%A9")


def test_a_callback_that_utf_8_cannot_encode(callback_gateway: Gateway) -> None:
    """A lone surrogate is replaced."""
    answer = sign_in(callback_gateway.elsewhere(), callbackURL="/\ud800")
    assert (answer.status, answer.headers["location"], answer.json["url"]) == (200, "/?", "/?")


@pytest.mark.parametrize(
    "url",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/%5cevil.example", "/a\r\nx: y", "dash",
     "javascript:alert(1)", "https://app.example.com/\r\nx: y", "https://app.example.com.evil.example/",
     "https://app.example.com@evil.example/", "http://app.example.com/", "https://app.example.com:x/"],
)  # fmt: skip
def test_foreign_callback(callback_gateway: Gateway, url: str) -> None:
    """Any other is refused, before the password is checked and without a session."""
    answer = sign_in(callback_gateway.elsewhere(), callbackURL=url)
    assert (answer.status, answer.json) == (403, {"message": "Invalid callbackURL", "code": "INVALID_CALLBACK_URL"})
    assert "location" not in answer.headers


def test_callbacks_that_are_no_strings(callback_gateway: Gateway) -> None:
    """Better-auth's answers; an empty one is none."""
    answer = sign_in(callback_gateway.elsewhere(), callbackURL=5)
    assert (answer.status, answer.json) == (400, {"message": "Invalid callbackURL: expected a string"})
    answer = sign_in(callback_gateway.elsewhere(), callbackURL=None)
    assert (answer.status, answer.json["code"]) == (400, "VALIDATION_ERROR")
    answer = sign_in(callback_gateway.elsewhere(), callbackURL="")
    assert (answer.json["redirect"], answer.json["url"], answer.headers.get("location")) == (False, "", None)


def test_ok(http_shared: Gateway) -> None:
    """As better-auth answers."""
    assert (http_shared.get("/api/auth/ok").status, http_shared.get("/api/auth/ok").json) == (200, {"ok": True})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"name": "A", "email": "a@b.co", "password": "password1"}, "EMAIL_PASSWORD_SIGN_UP_DISABLED",
         "Email and password sign up is not enabled"),
        ({"name": "A", "email": "bad", "password": ""}, "VALIDATION_ERROR",
         ("[body.email] Invalid email address;"
          " [body.password] Too small: expected string to have >=1 characters")),
        ({"name": "A", "email": "a@b.co", "password": "x", "image": 5, "rememberMe": "x"}, "VALIDATION_ERROR",
         ("[body.image] Invalid input: expected string, received number;"
          " [body.rememberMe] Invalid input: expected boolean, received string")),
    ],
)  # fmt: skip
def test_sign_up_is_disabled(http_shared: Gateway, body: object, code: str, message: str) -> None:
    """Sign-up is refused with better-auth's code; its fields are checked first."""
    answer = http_shared.post(SIGN_UP, body)
    assert (answer.status, answer.json) == (400, {"message": message, "code": code})
