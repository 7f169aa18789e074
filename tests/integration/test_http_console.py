"""The console's own endpoints: overview, activity, export, services, and the state of a set-up link."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support import people
from tests.support.console_data import ADMIN, SIGN_INS, make_home, seed
from tests.support.http_gateway import Gateway, run_gateway

from mosaic_gateway.auth import accounts
from mosaic_gateway.installation.layout import Home

ENDPOINTS = ("overview", "activity", "activity/export")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a backup and a run of doctor."""
    return make_home(tmp_path / "home")


@pytest.fixture
def gateway(http_database: str, home: Home) -> Iterator[Gateway]:
    """Run the application on a database with people and an audit log."""
    with run_gateway(http_database, home=home) as running:
        seed(running)
        yield running


def cookie_of(gateway: Gateway, role: str = "admin") -> str:
    """Sign in as the admin, with another role if *role* is one."""
    gateway.sql("UPDATE users SET role = %s WHERE email = %s", role, ADMIN["email"])
    return gateway.post("/api/auth/sign-in/email", {key: ADMIN[key] for key in ("email", "password")}).cookie


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_only_admins_see_the_console(gateway: Gateway, endpoint: str) -> None:
    """Without a session 401, as a user 403, as one of several roles 200."""
    path = f"/api/console/{endpoint}"
    assert gateway.get(path).status == 401
    answer = gateway.get(path, cookie=cookie_of(gateway, "user,administrator"))
    assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")
    answer = gateway.get(path, cookie=cookie_of(gateway, "user,admin"))
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"


def test_overview(gateway: Gateway, home: Home) -> None:
    """What the database, the home and doctor's record report."""
    facts = gateway.get("/api/console/overview", cookie=cookie_of(gateway)).json
    assert (facts["version"], facts["engine"], facts["gateways"]) == ("1.2.3", "postgres", 1)
    assert facts["schema"] == {"applied": 11, "of": 11}
    assert facts["database"]["size"] > 1_000_000
    assert facts["uptime"] >= 0
    assert facts["backup"]["kind"] == "online"
    assert facts["backup"]["verifiedAt"] == facts["backup"]["createdAt"]
    assert [one["check"] for one in facts["doctor"]["findings"] if one["level"] == "warning"] == ["disk space"]
    assert facts["notes"] == []
    assert facts["signIns"]["complete"] is True
    assert [day["count"] for day in facts["signIns"]["days"]][:-2] == list(SIGN_INS[:-2])


def test_overview_reports_what_is_missing(gateway: Gateway, home: Home) -> None:
    """A missing migration, no backup, and a record of doctor that is not valid."""
    gateway.sql("DELETE FROM drizzle.__drizzle_migrations WHERE id = 10")
    next(home.path.glob("backups/*/manifest.json")).write_text("{}")
    (home.run / "doctor.json").write_text("not JSON")
    facts = gateway.get("/api/console/overview", cookie=cookie_of(gateway)).json
    assert facts["schema"] == {"applied": 10, "of": 11}
    assert (facts["backup"], facts["doctor"]) == (None, None)
    assert [note["command"] for note in facts["notes"]] == [
        "mosaic-gateway storage migrate",
        "mosaic-gateway backup create --verify",
    ]


def test_copy_before_a_restore_is_not_the_last_backup(gateway: Gateway, home: Home) -> None:
    """A newer backup with a tag, which a restore made for itself, does not hide the one that is verified."""
    [verified] = home.path.glob("backups/*/manifest.json")
    copy = home.path / "backups" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-1.2.3" / "manifest.json"
    copy.parent.mkdir()
    copy.write_text(json.dumps({"created_at": datetime.now(UTC).isoformat(), "kind": "cold", "tag": "before-restore"}))
    cookie = cookie_of(gateway)
    shown = gateway.get("/api/console/overview", cookie=cookie).json["backup"]
    assert (shown["name"], shown["verifiedAt"]) == (verified.parent.name, shown["createdAt"])
    verified.unlink()
    assert gateway.get("/api/console/overview", cookie=cookie).json["backup"] is None


def test_old_backup_and_faults_are_notes(gateway: Gateway, home: Home) -> None:
    """A backup of last year, and a fault that doctor found."""
    manifest = next(home.path.glob("backups/*/manifest.json"))
    manifest.write_text(json.dumps({"created_at": "2020-01-01T00:00:00+00:00"}))
    record = json.loads((home.run / "doctor.json").read_text())
    record["findings"][0]["level"] = "fault"
    (home.run / "doctor.json").write_text(json.dumps(record))
    facts = gateway.get("/api/console/overview", cookie=cookie_of(gateway)).json
    assert [note["text"] for note in facts["notes"]] == [
        "The last backup is more than a week old.",
        "The last run of doctor found 1 fault.",
    ]


def test_activity_pages_by_key(gateway: Gateway) -> None:
    """Following ``older`` gives every entry once, newest first, also while new ones arrive."""
    cookie, before, found = cookie_of(gateway), "", []
    for _ in range(10):
        page = gateway.get(f"/api/console/activity?before={before}", cookie=cookie).json
        found += [entry["id"] for entry in page["entries"]]
        gateway.sql("INSERT INTO audit_log (action) VALUES ('later')")
        if page["older"] is None:
            break
        before = page["older"]
    expected = [row[0] for row in gateway.sql("SELECT id FROM audit_log WHERE action <> 'later' ORDER BY id DESC")]
    assert found == expected


def test_activity_is_filtered(gateway: Gateway) -> None:
    """By action, by a part of name or address of actor or target, by days; wrong values are named."""
    cookie = cookie_of(gateway)

    def entries(query: str) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = gateway.get(f"/api/console/activity?{query}", cookie=cookie).json["entries"]
        return listed

    assert {entry["action"] for entry in entries("action=sign-in.failed")} == {"sign-in.failed"}
    [failed] = entries("person=MALL")
    assert failed["target"] == {"id": "u6", "name": "Mallory", "email": "mallory@example.com"}
    assert failed["details"] == {"code": "BANNED_USER"}
    assert len(entries("person=barbara@example.com&action=user.set-password")) == 1
    assert entries("until=2020-01-01") == []
    assert entries("until=9999-12-31&since=0001-01-01") == entries("")
    assert entries("person=100%25") == []
    for query, field in (
        ("since=yesterday", "since"),
        ("before=x", "before"),
        ("before=99999999999999999999", "before"),
    ):
        answer = gateway.get(f"/api/console/activity?{query}", cookie=cookie)
        assert (answer.status, answer.json["code"]) == (400, "VALIDATION_ERROR")
        assert f"[query.{field}]" in answer.json["message"]


def test_activity_names_people_who_have_been_removed(gateway: Gateway) -> None:
    """Entries about a removed person, or by one, are found by name and address; those of a token say whose it is."""
    boss = {"cookie": cookie_of(gateway), "origin": f"http://127.0.0.1:{gateway.port}"}
    conninfo, grace = gateway.conninfo, {"id": "u0", "name": "Grace Hopper", "email": "grace@example.com"}
    token = accounts.create_token(conninfo, email=grace["email"], name="job", scopes=["read"], days=1).record
    accounts.revoke_token(conninfo, token_id=token.id)
    accounts.set_role(conninfo, email=grace["email"], role="admin")
    theirs = {"cookie": people.cookie_of(conninfo, "u0"), "origin": boss["origin"]}
    assert gateway.post("/api/auth/admin/unban-user", {"userId": "u6"}, **theirs).status == 200
    gateway.sql("DELETE FROM audit_log WHERE action LIKE 'sign-in.%%'")
    assert gateway.post("/api/auth/admin/remove-user", {"userId": "u0"}, **boss).status == 200
    for person in ("hopper", "GRACE@example.com"):
        listed = gateway.get(f"/api/console/activity?person={person}", cookie=boss["cookie"]).json["entries"]
        *others, unban = [listed[number] for number in (0, 2, 3, 4, 1)]
        assert [entry["action"] for entry in listed] == [
            "user.remove", "user.unban", "user.set-role", "token.revoke", "token.create",
        ]  # fmt: skip
        assert [entry["target"] for entry in others] == [grace] * 4
        assert (unban["actor"], unban["target"]["id"]) == (grace, "u6")
        assert listed[0]["actor"]["email"] == ADMIN["email"]
        assert listed[-1]["details"] == {"name": "job", "tokenId": token.id, "scopes": ["read"]}


def test_rare_entry_is_found_at_a_bounded_cost(gateway: Gateway) -> None:
    """A page that inspected its share of rows and found nothing says where to go on."""
    gateway.sql("INSERT INTO audit_log (action) SELECT 'noise' FROM generate_series(1, 20001)")
    cookie = cookie_of(gateway)
    first = gateway.get("/api/console/activity?action=user.set-password", cookie=cookie).json
    assert first["entries"] == []
    second = gateway.get(f"/api/console/activity?action=user.set-password&before={first['older']}", cookie=cookie).json
    assert [entry["action"] for entry in second["entries"]] == ["user.set-password"]
    assert second["older"] is None


def test_export(gateway: Gateway) -> None:
    """CSV and JSON have the filtered entries; a cell that a spreadsheet would compute is text."""
    gateway.sql("UPDATE users SET name = '=1+1' WHERE id = 'u6'")
    cookie = cookie_of(gateway)
    answer = gateway.get("/api/console/activity/export?action=sign-in.failed", cookie=cookie)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="activity.csv"'
    [row] = csv.DictReader(io.StringIO(answer.body.decode()))
    assert (row["target"], row["ipAddress"], row["details"]) == ("'=1+1", "203.0.113.9", '{"code": "BANNED_USER"}')
    answer = gateway.get("/api/console/activity/export?format=json", cookie=cookie)
    assert len(answer.json["entries"]) == gateway.sql("SELECT count(*) FROM audit_log")[0][0]
    assert gateway.get("/api/console/activity/export?format=xml", cookie=cookie).status == 400


@pytest.mark.parametrize("name", ["a;=1+1", "a; \t@SUM(1)", " =1", "\uff1d1+1", "=1;-1"])
def test_export_has_no_formula(gateway: Gateway, name: str) -> None:
    """Also where a spreadsheet separates cells by semicolons, and signs of full width begin a formula."""
    gateway.sql("UPDATE users SET name = %s WHERE id = 'u6'", name)
    answer = gateway.get("/api/console/activity/export?action=sign-in.failed", cookie=cookie_of(gateway))
    [row] = csv.DictReader(io.StringIO(answer.body.decode()))
    cells = row["target"].split(";")
    assert all(cell.startswith(("'", "a")) for cell in cells)
    assert row["target"].replace("'", "") == name


def test_services_need_a_session(gateway: Gateway) -> None:
    """Anyone who is signed in gets a list."""
    assert gateway.get("/api/console/services").status == 401
    assert gateway.get("/api/console/services", cookie=cookie_of(gateway, "user")).json == {"services": []}


def test_state_of_a_set_up_link(http_gateway: Gateway) -> None:
    """Valid, replaced, expired, used; asking does not consume the token."""

    def state(**headers: str) -> str:
        answer = http_gateway.post("/api/bootstrap/link", **headers)
        assert answer.status == 200
        return str(answer.json["state"])

    assert state() == "replaced"
    first, second = http_gateway.token(), http_gateway.token()
    assert state(x_setup_token=first) == "replaced"
    assert [state(x_setup_token=second) for _ in range(2)] == ["valid", "valid"]
    http_gateway.sql("UPDATE verifications SET expires_at = now() - interval '1 second'")
    assert state(x_setup_token=second) == "expired"
    assert state(x_setup_token=first) == "replaced"
    http_gateway.post("/api/bootstrap/setup", ADMIN, x_setup_token=http_gateway.token())
    assert state(x_setup_token=second) == state() == "used"


def test_missing_page_for_browsers(http_shared: Gateway) -> None:
    """A browser gets a page with the same headers; a program the JSON; better-auth's paths stay empty."""
    page = http_shared.get("/nope", accept="text/html,application/xhtml+xml")
    assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert http_shared.get("/nope").json["code"] == "NOT_FOUND"
    assert http_shared.get("/api/auth/nope", accept="text/html").body == b""
