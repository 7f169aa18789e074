"""An interpreter for an ordinary user: root's may lie where nobody else can read, in root's own directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from mosaic_gateway_installer.snapshot.closure import closure

LIMIT = 60.0  # seconds
WORK = "import mosaic_gateway_installer, psycopg, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"


def interpreter_for(become: tuple[str, ...], environment: Path) -> str:
    """Return ours, or the system's in a new *environment* with a copy of the package; skip where neither works.

    *become* are the words before a command that make it the user's.
    """
    if _can_work(become, sys.executable):
        return sys.executable
    name = f"python{sysconfig.get_python_version()}"
    system = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    if system is None:
        pytest.skip(f"our interpreter is closed to other users, and the system has no {name}")
    subprocess.run([system, "-m", "venv", "--without-pip", environment], check=True, timeout=LIMIT)
    found, programs = closure()
    for distributed in (*found.values(), *map(distribution, programs)):
        _copy(distributed, environment / "lib" / name / "site-packages")
    python = str(environment / "bin" / "python")
    if not _can_work(become, python):
        pytest.skip("the package is closed to other users")
    return python


def _can_work(become: tuple[str, ...], python: str) -> bool:
    probe = [*become, python, "-P", "-c", WORK]
    return subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode == 0


def _copy(distributed: Distribution, purelib: Path) -> None:
    for file in distributed.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:  # no commands: they name the interpreter
            target = purelib / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
