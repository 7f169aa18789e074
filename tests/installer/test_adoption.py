"""Adoption of retained data: users, sessions and secret stay; data of another installation is refused unchanged."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.site import MakeSite, Site

pytestmark = [pytest.mark.slow, on_both_engines]


EMAIL, PASSWORD = "ada@example.org", "a password with ünïcode"


def _with_admin(site: Site) -> str:
    """Install, create an admin, sign in; return the Cookie header."""
    site.installed()
    words = ("bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin")
    assert site.json(*words, stdin=f"{PASSWORD}\n").code == 0
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)) as connection:
        body = json.dumps({"email": EMAIL, "password": PASSWORD})
        connection.request("POST", "/api/auth/sign-in/email", body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        return "; ".join(value.split(";")[0] for value in response.headers.get_all("set-cookie") or ())


def _session(site: Site, cookie: str) -> object:
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)) as connection:
        connection.request("GET", "/api/auth/get-session", headers={"cookie": cookie})
        return json.loads(connection.getresponse().read())


def _snapshot(path: Path) -> dict[str, tuple[int, float, str]]:
    """Return every file with mode, mtime and hash."""
    return {
        str(file.relative_to(path)): (
            file.lstat().st_mode,
            file.lstat().st_mtime,
            hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        )
        for file in path.rglob("*")
        if file.name != ".lock"
    }


def test_a_session_stays_valid_after_uninstall_and_install(site: Site) -> None:
    """An earlier cookie is valid, and instance and users are the same, because data and secret are retained."""
    cookie = _with_admin(site)
    before = _session(site, cookie)
    assert isinstance(before, dict)
    assert before["user"]["email"] == EMAIL
    identity = site.receipt()["instance_id"]
    assert site.json("uninstall").code == 0
    adopted = site.installed()
    assert (adopted["instance_id"], adopted["smoke_test"]["needsSetup"]) == (identity, False)
    after = _session(site, cookie)
    assert isinstance(after, dict)
    assert (after["user"], after["session"]["token"]) == (before["user"], before["session"]["token"])


@pytest.fixture(scope="module")
def retained(make_site: MakeSite) -> Site:
    """Return a site whose data was retained by an uninstall."""
    created = make_site()
    created.installed("--no-start")
    created.json("uninstall")
    return created


def _cluster(site: Site) -> Path:
    [cluster] = (path for path in site.home.data.iterdir() if path.is_dir())
    return cluster


def _another_cluster(site: Site) -> None:
    """Give pg_control another system identifier: the first eight bytes."""
    control = _cluster(site) / "global" / "pg_control"
    content = control.read_bytes()
    control.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def _other_secret(site: Site) -> None:
    site.home.auth_secret.write_text("x" * 43 + "\n")


def _newer(site: Site) -> None:
    receipt = site.receipt()
    site.home.receipt.write_text(json.dumps({**receipt, "version": "99.0.0", "schema": "0" * 64}))


MISMATCHES: dict[str, tuple[str, str, Callable[[Site], object]]] = {
    "another cluster": ("FOREIGN_CLUSTER", "system identifier", _another_cluster),
    "no pg_control": ("FOREIGN_CLUSTER", "", lambda site: (_cluster(site) / "global" / "pg_control").unlink()),
    "no PG_VERSION": ("FOREIGN_CLUSTER", "", lambda site: (_cluster(site) / "PG_VERSION").unlink()),
    "no log": ("FOREIGN_CLUSTER", "pg_wal", lambda site: shutil.rmtree(_cluster(site) / "pg_wal")),
    "another major": ("FOREIGN_CLUSTER", "", lambda site: (_cluster(site) / "PG_VERSION").write_text("99\n")),
    "another secret": ("SECRET_MISMATCH", "auth-secret", _other_secret),
    "no secret": ("SECRET_LOST", "", lambda site: site.home.auth_secret.unlink()),
    "later schema": ("SCHEMA_NEWER", "99.0.0", _newer),
}


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_mismatching_data_is_refused_and_not_changed(retained: Site, scratch: Path, mismatch: str) -> None:
    """Exit code 7, the reason, and no file changed; after the original files are restored the data is adopted."""
    code, reason, act = MISMATCHES[mismatch]
    shutil.copytree(retained.path, scratch / "original", symlinks=True)
    act(retained)
    before = _snapshot(retained.path)
    refused = retained.install("--no-start")
    assert (refused.code, refused.error["code"]) == (7, code)
    assert reason in refused.error["message"]
    assert _snapshot(retained.path) == before
    for name in ("data", "secrets", "receipt.json"):
        target = retained.path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.move(scratch / "original" / name, target)
    if retained.account_name is not None:
        for path in (retained.path, *retained.path.rglob("*")):
            shutil.chown(path, retained.account_name)
    planned = retained.install("--no-start", "--dry-run")
    assert planned.code == 0, planned.out


def test_a_different_secret_in_the_environment_is_refused(retained: Site) -> None:
    """BETTER_AUTH_SECRET is compared, too; with --accept-secret it is accepted."""
    refused = retained.install("--no-start", "--dry-run", BETTER_AUTH_SECRET="y" * 40)
    assert (refused.code, refused.error["code"]) == (7, "SECRET_MISMATCH")
    assert "BETTER_AUTH_SECRET" in refused.error["message"]
    assert "y" * 40 not in refused.out + refused.err
    assert retained.install("--no-start", "--dry-run", "--accept-secret", BETTER_AUTH_SECRET="y" * 40).code == 0


def test_a_receipt_without_data_identity_is_accepted(make_site: MakeSite) -> None:
    """A receipt of an earlier version has none; an install adds it, and later installs verify it."""
    site = make_site()
    site.installed("--no-start")
    site.json("uninstall")
    receipt = site.receipt()
    known = receipt.pop("system_identifier"), receipt.pop("secret_check"), receipt.pop("kept")
    site.home.receipt.write_text(json.dumps(receipt))
    site.installed("--no-start")
    assert (site.receipt()["system_identifier"], site.receipt()["secret_check"]) == known[:2]
    _other_secret(site)
    assert site.install("--no-start").error["code"] == "SECRET_MISMATCH"
    site.installed("--no-start", "--accept-secret")
    assert site.install("--no-start").steps == []
