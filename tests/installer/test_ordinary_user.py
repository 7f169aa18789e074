"""Root's test run, installing as an ordinary user as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.installer.conftest import MakeSite, Site

    from mosaic_gateway.process.account import Account

SYSTEM = "/usr/local/bin:/usr/bin:/bin"
CAN_WORK = (
    "import mosaic_gateway_installer, psycopg, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
)
LIMIT = 60.0  # seconds


@pytest.fixture(scope="module")
def become(account: Account | None) -> tuple[str, ...]:
    """Return the words before a command that make it the user's."""
    if account is None:
        return ()
    return ("setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups")


@pytest.fixture(scope="module")
def user_python(become: tuple[str, ...], scratch_root: Path) -> str:
    """Return an interpreter that the user can run: ours, or the system's with a copy of the package.

    Root's may lie where nobody else can read, in root's own directory.
    """
    if _can_work(become, sys.executable):
        return sys.executable
    name = f"python{sysconfig.get_python_version()}"
    system = shutil.which(name, path=SYSTEM)
    if system is None:
        pytest.skip(f"our interpreter is closed to other users, and the system has no {name}")
    environment = scratch_root / "user-python"
    subprocess.run([system, "-m", "venv", "--without-pip", environment], check=True, timeout=LIMIT)
    purelib = environment / "lib" / name / "site-packages"
    for distributed in _closure("mosaic-gateway", ()):
        _copy(distributed, purelib)
    python = str(environment / "bin" / "python")
    if not _can_work(become, python):
        pytest.skip("the package is closed to other users")
    return python


def _can_work(become: Iterable[str], python: str) -> bool:
    probe = [*become, python, "-P", "-c", CAN_WORK]
    return subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode == 0


def _closure(name: str, extras: Iterable[str]) -> set[str]:
    """Return *name* and all that it needs."""
    needed = {name}
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            needed |= _closure(wanted.name, wanted.extras)
    return needed


def _copy(name: str, purelib: Path) -> None:
    for file in distribution(name).files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:  # no commands: they name the interpreter
            target = purelib / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)


@pytest.fixture
def user_site(make_site: MakeSite, account: Account | None, become: tuple[str, ...], user_python: str) -> Site:
    """Return a site on which an ordinary user works."""
    if account is None:
        return make_site()
    site = make_site(prefix=become, run_as=False)
    site.python = user_python
    site.environ = {**site.environ, "HOME": str(site.path.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return site


def test_an_ordinary_user_installs_uses_and_removes(user_site: Site) -> None:
    """From install to purge without any right beyond the user's own; no account is made or named."""
    done = user_site.install()
    assert done.result["account"] is None
    assert "hand-over" not in done.steps
    assert user_site.install().steps == []
    assert user_site.json("doctor").code == 0
    assert user_site.json("uninstall", f"--purge={user_site.receipt()['instance_id']}").code == 0
    user_site.assert_nothing_runs()


def test_an_ordinary_user_cannot_install_for_another(user_site: Site) -> None:
    """--run-as is root's."""
    done = user_site.install("--run-as", "nobody")
    assert (done.code, done.error["code"]) == (2, "RUN_AS")


def test_a_home_of_another_user_is_closed(user_site: Site) -> None:
    """Neither install nor uninstall nor doctor takes a closed directory for a broken or missing one."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user, which only root can be")
    user_site.path.mkdir(mode=0o700)
    os.chown(user_site.path, 65534, 65534)
    assert user_site.install().error["code"] == "HOME_UNUSABLE"
    for verb in ("uninstall", "doctor"):
        done = user_site.json(verb)
        assert (done.code, done.error["code"]) == (3, "HOME_OWNER")
    os.chown(user_site.path, 0, 0)
