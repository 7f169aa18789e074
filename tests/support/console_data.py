"""People, sessions, an audit log, a backup and a run of doctor, as the console displays them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.http_gateway import Gateway

from mosaic_gateway.installation.doctor_record import write_doctor_record
from mosaic_gateway.installation.layout import Home

ADMIN = {"name": "Ada Lovelace", "email": "ada@example.com", "password": "eine Brücke über den Fluß"}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1"
#: Name, role, whether banned.
PEOPLE = (
    ("Grace Hopper", "user", False), ("Alan Turing", "user", False), ("Edsger Dijkstra", "user", False),
    ("Barbara Liskov", "admin", False), ("Donald Knuth", "user", False), ("Radia Perlman", "user", False),
    ("Mallory", "user", True), ("Niklaus Wirth", "user", False), ("Margaret Hamilton", "user", False),
    ("Tony Hoare", "user", False), ("Frances Allen", "user", False), ("Ken Thompson", "user", False),
)  # fmt: skip
SIGN_INS = (3, 5, 4, 0, 1, 6, 7, 5, 4, 6, 1, 2, 8, 9, 7, 6, 7, 2, 1, 9, 11, 8, 9, 10, 3, 2, 9, 12, 10, 6)
FINDINGS = (
    *({"check": name, "level": "ok", "message": "fine"} for name in ("settings", "package", "secret", "schema")),
    {
        "check": "disk space",
        "level": "warning",
        "code": "DISK_LOW",
        "message": "4.1 GB are free, less than the next upgrade needs",
        "hint": "Remove old backups: mosaic-gateway backup prune --keep 3",
    },
)  # fmt: skip
INSERT_USER = """
INSERT INTO users (id, name, email, email_verified, role, banned, ban_reason, created_at)
VALUES (%s, %s, %s, true, %s, %s, %s, now() - %s * interval '9 days')
"""
INSERT_SESSIONS = """
INSERT INTO sessions (id, expires_at, token, created_at, updated_at, ip_address, user_agent, user_id)
SELECT 's' || id, now() + interval '6 days', 'token-' || id, now() - interval '1 day', now(), '192.0.2.17', %s, id
FROM users WHERE id IN ('u0', 'u1') OR email = %s
"""
INSERT_SIGN_INS = """
INSERT INTO audit_log (actor_id, action, target, ip_address, created_at)
SELECT 'u' || (number %% 6), 'sign-in.succeeded', 'u' || (number %% 6), '192.0.2.' || (10 + number %% 7),
    now() - (day - 1) * interval '1 day' - number * interval '7 minutes'
FROM unnest(%s::int[]) WITH ORDINALITY AS counts (count, day), generate_series(1, count) AS number
ORDER BY day DESC, number DESC
"""


def seed(gateway: Gateway) -> None:
    """Create `ADMIN` and `PEOPLE`, two sessions, and sign-ins of thirty days."""
    gateway.post("/api/bootstrap/setup", ADMIN, x_setup_token=gateway.token(), user_agent=FIREFOX)
    for number, (name, role, banned) in enumerate(PEOPLE):
        email = f"{name.split()[0].lower()}@example.com"
        reason = "Spam" if banned else None
        gateway.sql(INSERT_USER, f"u{number}", name, email, role, banned, reason, number + 1)
    gateway.sql(INSERT_SESSIONS, PHONE, ADMIN["email"])
    gateway.sql(INSERT_SIGN_INS, list(reversed(SIGN_INS)))
    gateway.sql(
        "INSERT INTO audit_log (actor_id, action, target, ip_address, details) VALUES"
        " (NULL, 'sign-in.failed', 'u6', '203.0.113.9', %s), (NULL, 'user.set-password', 'u3', NULL, '{}')",
        json.dumps({"code": "BANNED_USER"}),
    )


def make_home(path: Path) -> Home:
    """Create the files of a home from which the console reports: a backup of two days ago, a run of doctor."""
    created = datetime.now(UTC) - timedelta(days=2)
    backup = path / "backups" / f"{created:%Y%m%dT%H%M%SZ}-1.2.3"
    backup.mkdir(parents=True)
    moment = created.isoformat(timespec="seconds")
    (backup / "manifest.json").write_text(
        json.dumps({"backup": 1, "created_at": moment, "verified_at": moment, "kind": "online", "files": []})
    )
    home = Home(path)
    home.run.mkdir()
    write_doctor_record(home, FINDINGS)
    return home
