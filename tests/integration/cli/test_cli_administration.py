"""The verbs that change users, sessions and API tokens; each against a running gateway where it has an effect there."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.cli_home import MakePlace, Place
from tests.support.people import cookie_of
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.migrations import Bundle, migrate

if TYPE_CHECKING:
    from pathlib import Path

ADA = "ada@example.com"
BOB = "bob@example.com"
WORD = "correct horse battery staple"
SESSION = "/api/auth/get-session"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"


@pytest.fixture(scope="module")
def populated(postgres_server: PostgresServer) -> str:
    """The name of a template database with the admin Ada and the user Bob, whose passwords are `WORD`."""
    from mosaic_gateway.auth import accounts  # noqa: PLC0415 - imports psycopg

    name = postgres_server.create_database(prefix="cli_people")
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    accounts.setup_first_admin(postgres_server.conninfo(name), name="Ada", email=ADA, password=WORD)
    accounts.create_user(postgres_server.conninfo(name), name="Bob", email=BOB, password=WORD)
    return name


@pytest.fixture
def conninfo(postgres_server: PostgresServer, populated: str) -> str:
    """The conninfo of a copy of that database."""
    return postgres_server.conninfo(postgres_server.create_database(template=populated, prefix="cli_people"))


@pytest.fixture
def people(make_place: MakePlace, conninfo: str) -> Place:
    """A home with that database."""
    return make_place(conninfo)


def sign_in(place: Place, email: str, password: str = WORD) -> tuple[int, str]:
    """Sign in over HTTP; return the status code and the cookie."""
    answer = place.request("POST", "/api/auth/sign-in/email", {"email": email, "password": password})
    return answer.status, answer.headers.get("set-cookie", "").split(";")[0]


def actions(conninfo: str) -> list[tuple[str, str | None]]:
    """Return action and actor of the audit log's rows, without those of the template."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT action, actor_id FROM audit_log ORDER BY id OFFSET 2").fetchall()
    return [(row[0], row[1]) for row in rows]


def test_last_admin(people: Place) -> None:
    """The last admin cannot be banned, demoted or removed; with a second admin all three work."""
    words = {
        "ban": ("auth", "users", "ban", "--email", ADA),
        "set-role": ("auth", "users", "set-role", "--email", ADA, "--role", "user"),
        "remove": ("auth", "users", "remove", "--email", ADA, "--yes"),
    }
    for verb in words.values():
        assert people.ask(*verb, code=7)["code"] == "LAST_ADMIN"
    bob = people.ask("auth", "users", "set-role", "--email", BOB.upper(), "--role", "editors,admin")["user"]
    assert bob["role"] == "editors,admin"
    assert people.ask(*words["ban"])["user"]["banned"] is True
    assert people.ask("auth", "users", "ban", "--email", BOB, code=7)["code"] == "LAST_ADMIN"
    assert people.ask("auth", "users", "unban", "--email", ADA)["user"]["banned"] is False
    assert people.ask(*words["set-role"])["user"]["role"] == "user"
    assert people.ask(*words["remove"])["user"]["email"] == ADA
    assert [user["email"] for user in people.ask("auth", "users", "list")["users"]] == [BOB]


def test_refused(people: Place) -> None:
    """Unknown users, roles, scopes, sessions and tokens, and a removal that is not confirmed, are refused."""
    unknown = ("--email", "none@example.com")
    verbs: tuple[tuple[str, ...], ...] = (
        ("users", "ban", *unknown), ("users", "unban", *unknown), ("users", "remove", "--yes", *unknown),
        ("users", "set-role", *unknown, "--role", "user"), ("users", "reset-link", *unknown),
        ("sessions", "list", *unknown), ("sessions", "revoke", *unknown), ("tokens", "list", *unknown),
        ("tokens", "create", *unknown, "--name", "x", "--scope", "read"), ("users", "ban", "--email", "a\x01b"),
    )  # fmt: skip
    for words in verbs:
        assert people.ask("auth", *words, code=2)["code"] == "USER_NOT_FOUND"
    refused: tuple[tuple[tuple[str, ...], str], ...] = (
        (("users", "set-role", "--email", BOB, "--role", "a b"), "INVALID_ROLE"),
        (("users", "set-role", "--email", BOB, "--role", ""), "INVALID_ROLE"),
        (("users", "remove", "--email", BOB), "REMOVAL_NOT_CONFIRMED"),
        (("users", "ban", "--email", BOB, "--days", "0"), "USAGE"),
        (("tokens", "create", "--email", BOB, "--name", "x", "--scope", "all"), "INVALID_SCOPE"),
        (("tokens", "create", "--email", BOB, "--name", " ", "--scope", "read"), "INVALID_NAME"),
        (("tokens", "create", "--email", BOB, "--name", "x"), "USAGE"),
        (("tokens", "revoke", "--id", "nothing"), "API_TOKEN_NOT_FOUND"),
        (("sessions", "revoke", "--id", "nothing"), "SESSION_NOT_FOUND"),
        (("sessions", "revoke"), "SESSION_CHOICE"),
        (("sessions", "revoke", "--id", "x", "--email", BOB), "SESSION_CHOICE"),
    )
    for words, code in refused:
        assert people.ask("auth", *words, code=2)["code"] == code
    assert len(people.ask("auth", "users", "list")["users"]) == 2


def test_a_ban_ends_sessions(people: Place, conninfo: str) -> None:
    """A ban ends sessions and refuses sign-in until it is lifted; a ban for days has an end."""
    people.ask("start")
    _, cookie = sign_in(people, BOB)
    banned = people.ask("auth", "users", "ban", "--email", BOB, "--reason", "spam", "--days", "1.5")["user"]
    assert (banned["banReason"], banned["banned"]) == ("spam", True)
    assert banned["banExpires"] > banned["updatedAt"]
    assert people.request("GET", SESSION, headers={"cookie": cookie}).json is None
    assert sign_in(people, BOB)[0] == 403
    assert re.fullmatch(rf"{BOB}  user   banned until {TIME}  Bob", _listed(people, "users")[2])
    words = ("auth", "users", "unban", "--email", BOB)
    assert people.run(*words).out == f"The ban of {BOB} was lifted.\n"
    assert people.run(*words).out == f"{BOB} was not banned; nothing was changed.\n"
    assert sign_in(people, BOB)[0] == 200
    done = people.run("auth", "users", "ban", "--email", BOB)
    assert done.out == "bob@example.com is banned; all sessions were ended.\n"
    assert [action for action, _ in actions(conninfo) if action.startswith("user.")] == [
        "user.ban", "user.unban", "user.ban",
    ]  # fmt: skip


def test_reset_link(people: Place) -> None:
    """A reset link sets the password once; a newer one invalidates an older one; the token is in no log."""
    people.ask("start")
    links = [people.ask("auth", "users", "reset-link", "--email", BOB) for _ in range(2)]
    assert links[0]["expires_at"].endswith("Z")
    assert links[0]["url"].startswith(f"http://127.0.0.1:{people.port}/reset-password#token=")
    tokens = [link["url"].partition("#token=")[2] for link in links]
    statuses = [
        people.request("POST", "/api/auth/reset-password", {"newPassword": "another one", "token": token}).status
        for token in (tokens[0], tokens[1], tokens[1])
    ]
    assert statuses == [400, 200, 400]
    assert [sign_in(people, BOB, word)[0] for word in (WORD, "another one")] == [401, 200]
    assert not [token for token in tokens if token in people.log()]


def test_sessions(people: Place, conninfo: str) -> None:
    """Sessions are listed without their tokens, and revoked one by one or all of a user."""
    people.ask("start")
    with psycopg.connect(conninfo) as connection:
        ids: dict[str, str] = dict(connection.execute("SELECT email, id FROM users").fetchall())
    cookies = [cookie_of(conninfo, ids[BOB]) for _ in range(3)]
    cookie_of(conninfo, ids[ADA])
    listed = people.ask("auth", "sessions", "list")["sessions"]
    assert [session["email"] for session in listed] == [ADA, BOB, BOB, BOB]
    assert all("token" not in session for session in listed)
    first = listed[1]["id"]
    with psycopg.connect(conninfo) as connection:
        browser = "UPDATE sessions SET ip_address = '192.0.2.7', user_agent = %s WHERE id = %s"
        connection.execute(browser, ("Mozilla/5.0 " * 20, first))
    headings, *lines = _listed(people, "sessions", "--email", BOB)
    assert (headings.split(), len(lines)) == (["Id", "E-mail", "Until", "Address", "Program"], 3)
    assert re.fullmatch(rf"{first}  {BOB}  {TIME}  192.0.2.7  (Mozilla/5.0 ){{4}}Mozilla/5.0…", lines[0])
    assert people.ask("auth", "sessions", "revoke", "--id", first) == {"revoked": 1}
    assert people.ask("auth", "sessions", "revoke", "--email", BOB) == {"revoked": 2}
    for cookie in cookies:
        assert people.request("GET", SESSION, headers={"cookie": cookie}).json is None
    assert people.run("auth", "sessions", "list", "--email", BOB).out == "No sessions.\n"


def _listed(place: Place, group: str, *options: str) -> list[str]:
    """Return the lines of the verb ``list`` of *group*."""
    return place.run("auth", group, "list", *options).out.splitlines()


def test_a_scope_without_its_role_is_a_warning(people: Place) -> None:
    """A token with the scope admin of a person who is no admin is created, with a warning; others are without one."""

    def warnings(email: str, scope: str) -> str:
        done = people.run("auth", "tokens", "create", "--email", email, "--name", "x", "--scope", scope)
        assert done.code == 0
        return done.err

    assert f"{BOB} is not an admin: the scope admin permits nothing until this user is one" in warnings(BOB, "admin")
    assert warnings(BOB, "forward") + warnings(ADA, "admin") == ""


def test_tokens(people: Place, conninfo: str, tmp_path: Path) -> None:
    """A token is printed once or written to a new file (0600), works until it is revoked, and is stored as a hash."""
    people.ask("start")
    words = ("auth", "tokens", "create", "--email", ADA, "--name", "backup job")
    done = people.run(*words, "--scope", "admin", "--scope", "read", "--no-expiry")
    secret = done.out.strip()
    assert secret.startswith("mgw_")
    file = tmp_path / "token"
    made = people.ask(*words, "--scope", "read", "--output", str(file))
    assert set(made) == {"token", "output"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert people.ask(*words, "--scope", "read", "--output", str(file), code=2)["code"] == "NAMED_FILE"
    listed = people.ask("auth", "tokens", "list", "--email", ADA)["tokens"]
    assert [(token["scopes"], token["expiresAt"] is None) for token in listed] == [
        (["read", "admin"], True), (["read"], False), (["read"], False),
    ]  # fmt: skip
    assert [token["revokedAt"] is not None for token in listed] == [False, False, True]

    def users(token: str) -> int:
        return people.request("GET", "/api/auth/admin/list-users", headers={"authorization": f"Bearer {token}"}).status

    assert [users(secret), users(file.read_text().strip()), users("mgw_" + "x" * 43)] == [200, 200, 401]
    assert people.ask("auth", "tokens", "revoke", "--id", listed[0]["id"])["token"]["revokedAt"]
    assert users(secret) == 401
    assert {token["email"] for token in listed} == {ADA}
    headings, *lines = _listed(people, "tokens")
    assert headings.split() == ["Id", "E-mail", "Scopes", "State", "Last", "used", "Name"]
    assert re.fullmatch(rf"{listed[0]['id']}  {ADA}  read,admin  revoked {{20,}}{TIME}  backup job", lines[0])
    assert re.fullmatch(rf"{listed[1]['id']}  {ADA}  read        until {TIME}  {TIME}  backup job", lines[1])
    shown = "\n".join(lines)
    with psycopg.connect(conninfo) as connection:
        stored = connection.execute("SELECT string_agg(t::text, ' ') FROM api_tokens t").fetchone()
        audit = connection.execute("SELECT string_agg(a::text, ' ') FROM audit_log a").fetchone()
    assert stored is not None
    assert audit is not None
    assert not [text for text in (shown, stored[0], audit[0], people.log()) if secret in text]
    assert [action for action, _ in actions(conninfo)].count("token.refused") == 1
