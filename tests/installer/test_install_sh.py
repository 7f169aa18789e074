"""The shell script that ends in the real command."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.installer.conftest import Site

SCRIPT = Path(__file__).resolve().parents[2] / "installer" / "install.sh"
LIMIT = 300.0  # seconds


def _run(site: Site, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in {**site.environ, **environ}.items() if name != "PYTHONPATH"}
    return subprocess.run(
        ["sh", SCRIPT, *words], env=env, capture_output=True, text=True, timeout=LIMIT, check=False, cwd="/"
    )


@pytest.fixture
def false_pip(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which venv and pip only write down how they are called."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name, line in (("python", 'echo "pip $*"'), ("mosaic-gateway", 'echo "command $*"')):
        (venv / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (venv / "bin" / name).chmod(0o755)
    return {"MOSAIC_GATEWAY_VENV": str(venv), "PYTHON": sys.executable}


def test_it_is_plain_sh_and_can_be_executed() -> None:
    """A POSIX shell reads it, and its mode lets it run."""
    subprocess.run(["sh", "-n", SCRIPT], check=True)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_arguments_go_to_the_command_unchanged(site: Site, false_pip: dict[str, str]) -> None:
    """Spaces and empty arguments survive; the checkout is what gets installed; the place of the command is told."""
    done = _run(site, "--port", "1 2", **false_pip)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(str(SCRIPT.parents[1]))
    assert lines[1] == "command install --port 1 2"
    assert f"{false_pip['MOSAIC_GATEWAY_VENV']}/bin/mosaic-gateway" in done.stderr.splitlines()[-1]


def test_upgrade_is_passed_on_as_the_verb(site: Site, false_pip: dict[str, str]) -> None:
    """A first word that names the verb is not given to install."""
    assert _run(site, "upgrade", "--json", **false_pip).stdout.splitlines()[1] == "command upgrade --json"
    assert _run(site, "install", "--json", **false_pip).stdout.splitlines()[1] == "command install --json"


def test_the_package_can_be_named(site: Site, false_pip: dict[str, str]) -> None:
    """MOSAIC_GATEWAY_PACKAGE wins over the checkout."""
    done = _run(site, MOSAIC_GATEWAY_PACKAGE="/some/where.whl", **false_pip)
    assert done.stdout.splitlines()[0].endswith("--upgrade /some/where.whl")


def test_outside_of_a_checkout_the_index_is_asked(site: Site, false_pip: dict[str, str], tmp_path: Path) -> None:
    """A copy of the script alone installs the published package."""
    lonely = tmp_path / "lonely" / "install.sh"
    lonely.parent.mkdir()
    shutil.copy(SCRIPT, lonely)
    done = subprocess.run(
        ["sh", lonely], env={**site.environ, **false_pip}, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.stdout.splitlines()[0].endswith("--upgrade mosaic-gateway")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("exit 1", "no Python 3.11 or later"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
    ],
)
def test_an_unfit_interpreter_is_named(site: Site, tmp_path: Path, python: str, said: str) -> None:
    """Too old an interpreter, or Debian's without venv: exit code 3 and the remedy."""
    false = tmp_path / "python3"
    false.write_text(f"#!/bin/sh\n{python}\n")
    false.chmod(0o755)
    done = _run(site, PYTHON=str(false), MOSAIC_GATEWAY_VENV=str(tmp_path / "venv"))
    assert done.returncode == 3
    assert said in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
def test_from_a_checkout_to_a_running_gateway(site: Site, tmp_path: Path) -> None:
    """The real thing: environment, package with its dependencies, install, answer, purge."""
    venv = tmp_path / "a venv"
    words = [word for word in site.install_words() if word != "install"]
    done = _run(site, *words, "--home", str(site.path), MOSAIC_GATEWAY_VENV=str(venv), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["result"]["smoke_test"]["needsSetup"] is True
    command: list[str | Path] = [
        venv / "bin" / "mosaic-gateway",
        "uninstall",
        f"--purge={site.receipt()['instance_id']}",
    ]
    env = {name: value for name, value in site.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*command, "--home", str(site.path)], check=True, capture_output=True, env=env, cwd=os.sep)
    site.assert_nothing_runs()
