"""A home of an old version with data in it, run by its own program."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.site import Site
from tests.support.site_database import connect_to, rows_of

from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway_installer.backup.row_checksums import Contents

EMAIL, PASSWORD = "ada@example.com", "correct horse battery staple"
INSIGHTS = 200


@dataclass
class Old(Site):
    """A home of the old version, run by its own program. ``before`` are its rows before the upgrade."""

    before: Contents = ()
    before_documents: tuple[Any, ...] = ()
    cookie: str = ""

    def run_version(self, package: Path, *words: str, **options: Any) -> Any:
        """Run a verb with the version that is unpacked in *package*."""
        return self.run(*words, "--json", PYTHONPATH=str(package), **options)

    def popen_version(self, package: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a verb with the version that is unpacked in *package*."""
        return self.popen(*words, "--json", PYTHONPATH=str(package), **options)

    def rows(self) -> Contents:
        """Return count and checksum of every table, except for the documents."""
        return rows_of(self)

    def documents(self) -> list[Any]:
        """Return the documents that the tests have created."""
        return documents_of(self)

    def session(self) -> Any:
        """Return the session of the cookie from before the upgrade."""
        return self.request_with(self.cookie, "/api/auth/get-session")

    def request_with(self, cookie: str, path: str) -> Any:
        """Send a GET request with *cookie*, and return the decoded JSON body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", path, headers={"cookie": cookie})
            return json.loads(connection.getresponse().read() or "null")


def documents_of(site: Site) -> list[Any]:
    """Return the documents of a running gateway's database that the tests have created."""
    with closing(connect_to(site)) as connection:
        return list(
            connection.execute("SELECT * FROM storage_documents WHERE collection = 'tests' ORDER BY collection, key")
        )


def seeded_home(directory: Path, package: Path, port: int, **environ: str) -> Old:
    """Install the version in *package* into *directory*, fill it, stop it, and save a copy for `restore_saved_home`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MOSAIC_GATEWAY_", "PG"))}
    site = Old(directory / "home", port, {**clean, **environ})
    done = site.run(*site.install_words(), PYTHONPATH=str(package))
    assert done.code == 0, (done.out, done.err)
    _seed(site, package)
    site.cookie = _sign_in(site)
    site.before, site.before_documents = rows_of(site), tuple(documents_of(site))
    gateway_process.stop(site.home)
    shutil.copytree(site.path, directory / "saved", symlinks=True, copy_function=_copy)
    return site


def restore_saved_home(template: Old) -> Old:
    """Replace a home by the copy that `seeded_home` saved, and start it with its own program."""
    template.close()
    shutil.rmtree(template.path, ignore_errors=True)
    saved = template.path.with_name("saved")
    shutil.copytree(saved, template.path, symlinks=True, copy_function=_copy)
    started = subprocess.run(
        [template.path / "bin/mosaic-gateway", "start"], capture_output=True, timeout=60, check=False
    )
    assert started.returncode == 0, started.stderr
    return template


def _seed(site: Old, package: Path) -> None:
    words = ["bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin"]
    done = site.run_version(package, *words, stdin=PASSWORD)
    assert done.code == 0, done.out
    with closing(connect_to(site)) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO insights (id, user_id, content, embedding)"
            " SELECT 'i' || n, (SELECT id FROM users), 'insight ' || n,"
            " (SELECT array_agg(random()) FROM generate_series(1, 1536) WHERE n > 0)::vector"
            f" FROM generate_series(1, {INSIGHTS}) AS n"
        )
        connection.execute(
            "INSERT INTO storage_documents (collection, key, value)"
            " SELECT 'tests', 'k' || n, jsonb_build_object('n', n) FROM generate_series(1, 50) AS n"
        )


def _sign_in(site: Old) -> str:

    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)) as connection:
        body = json.dumps({"email": EMAIL, "password": PASSWORD})
        connection.request("POST", "/api/auth/sign-in/email", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        return "; ".join(value.split(";")[0] for value in response.headers.get_all("set-cookie") or ())


def _copy(source: str, target: str) -> str:
    return str(shutil.copy2(source, target, follow_symlinks=False))
