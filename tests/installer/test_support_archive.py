"""The support archive: its members, and that it contains no secret."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.site import MakeSite, Site

from mosaic_gateway_installer.checks.support_archive import SecretRedactor

pytestmark = pytest.mark.slow

FILES = {
    "findings.json", "versions.json", "machine.json", "settings.json", "files.txt", "gateway.log", "postgres.log",
    "receipt.json",
}  # fmt: skip


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: stream.read()
            for member in archive.getmembers()
            if (stream := archive.extractfile(member)) is not None
        }


def _encodings(secret: str) -> set[bytes]:
    return {secret.encode(), quote(secret, safe="").encode(), base64.b64encode(secret.encode()).rstrip(b"=")}


def test_the_archive_contains_no_secret(make_site: MakeSite, tmp_path: Path) -> None:
    """Secrets of the home, of the environment, and in log lines are not in the archive."""
    site = make_site()
    link = site.installed()["setup_url"]
    secret = site.home.auth_secret.read_text().strip()
    from_environment = "p/w&%d: from the environment"
    with site.home.gateway_log.open("a") as log:
        log.write(f"a user wrote {secret} and {link} and postgresql://me:hunter2@db/x here\n")
        log.write("Cookie: better-auth.session_token=abcdefgh.signature\nX-Setup-Token: tok-en\npassword=letmein99\n")
    target = tmp_path / "support.tar.gz"
    tmp_path.chmod(0o755)
    done = site.json("doctor", "--bundle", str(target), BETTER_AUTH_SECRET=from_environment, PGPASSWORD="pg-secret-77")
    assert set(done.result["bundle"]["files"]) == FILES
    assert target.stat().st_mode & 0o777 == 0o600
    members = _members(target)
    assert set(members) == FILES
    whole = gzip.decompress(target.read_bytes())
    token = link.partition("token=")[2]
    secrets = (secret, token, from_environment, "hunter2", "abcdefgh.signature", "tok-en", "letmein99", "pg-secret-77")
    leaked = [one for one in secrets for encoded in _encodings(one) if encoded in whole]
    assert leaked == []
    assert json.loads(members["receipt.json"])["instance_id"] == site.receipt()["instance_id"]
    assert {one["check"] for one in json.loads(members["findings.json"])} >= {"schema", "gateway"}
    assert b"Listening on" in members["gateway.log"]
    assert b"a user wrote ****" in members["gateway.log"]
    assert json.loads(members["settings.json"])["auth_secret"]["value"] == "Secret('****')"


def test_a_database_url_and_its_password_are_masked(make_site: MakeSite, database: str, tmp_path: Path) -> None:
    """The password is not in the archive, plain or encoded, although the log and the settings contain it."""
    site = make_site()
    password = "s%cr t&/1"
    url = f"{database} password='{password}'"
    site.installed("--no-start", "--database-url", url)
    with (site.home.gateway_log).open("a") as log:
        log.write(f"cannot connect with {url}; password was {quote(password, safe='')}\n")
    tmp_path.chmod(0o755)
    site.json("doctor", "--bundle", str(tmp_path / "support.tar.gz"))
    whole = gzip.decompress((tmp_path / "support.tar.gz").read_bytes())
    assert [encoded for encoded in _encodings(password) if encoded in whole] == []


def test_an_existing_file_is_not_replaced(installed: Site, tmp_path: Path) -> None:
    """An existing file stays unchanged, and a link is not followed."""
    target = tmp_path / "mine"
    target.write_text("mine")
    for name in ("mine", "link"):
        if name == "link":
            (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        done = installed.json("doctor", "--bundle", str(tmp_path / name))
        assert (done.code, done.error["code"]) == (2, "SUPPORT_FILE")
    assert target.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:****@host/db"),
        ("see http://127.0.0.1/setup#token=Abc-_1 now", "see http://127.0.0.1/setup#token=**** now"),
        ('{"password": "x1", "name": "y"}', '{"password": "****", "name": "y"}'),
        ("MY_API_KEY=abc; other=1", "MY_API_KEY=****; other=1"),
        ("Set-Cookie: a=b; Path=/", "Set-Cookie: ****"),
        ("nothing of that kind: tokens are counted", "nothing of that kind: tokens are counted"),
    ],
)
def test_text_in_the_form_of_a_secret_is_masked(text: str, expected: str) -> None:
    """Text in the form of a secret is masked; ordinary words are not."""
    assert SecretRedactor([]).clean(text) == expected


def test_a_secret_within_another_is_masked_completely() -> None:
    """The longer secret is masked first; a very short one is not masked."""
    assert SecretRedactor(["abc", "abcdef", "x"]).clean("abcdef abc x") == "**** **** x"
