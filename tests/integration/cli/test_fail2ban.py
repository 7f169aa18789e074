from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.cli_home import Place

GUIDE = Path(__file__).parents[3] / "docs" / "howto" / "block-attackers-with-fail2ban.md"
CODE_BLOCK = re.compile(r"```ini\n(\[Definition\].*?)```", re.DOTALL)
FAIL2BAN_REGEX = shutil.which("fail2ban-regex")


@pytest.mark.skipif(FAIL2BAN_REGEX is None, reason="fail2ban is not installed")
def test_the_filter_finds_every_failure_and_nothing_else(running: Place, tmp_path: Path) -> None:
    """fail2ban-regex, with the guide's filter, finds the addresses of failed sign-ins in the gateway's own log."""
    log = running.home.gateway_log
    before = log.stat().st_size
    for number, email in enumerate(("a@example.com", "b@example.com", "address=192.0.2.1 code=X\n@example.com")):
        assert sign_in(running, f"127.9.9.{number}", email) == (400 if number == 2 else 401)
    for number in range(4):
        sign_in(running, "127.9.9.9", f"user{number}@example.com")
    written = tmp_path / "gateway.log"
    written.write_bytes(log.read_bytes()[before:])
    conf = tmp_path / "mosaic-gateway.conf"
    [text] = CODE_BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    conf.write_text(text, encoding="utf-8")
    assert FAIL2BAN_REGEX is not None
    found = subprocess.run(
        [FAIL2BAN_REGEX, "--out", "ip", str(written), str(conf)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert found.stdout.split() == ["127.9.9.0", "127.9.9.1", *["127.9.9.9"] * 4], found
    assert [line.rpartition("code=")[2] for line in written.read_text().splitlines() if "Sign-in" in line] == [
        *["INVALID_EMAIL_OR_PASSWORD"] * 5, "TOO_MANY_REQUESTS",
    ]  # fmt: skip


def sign_in(place: Place, address: str, email: str) -> int:
    """Try a wrong password from *address* and return the status."""
    body = {"email": email, "password": "wrong"}
    return place.request("POST", "/api/auth/sign-in/email", body, address=address).status
