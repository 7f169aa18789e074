"""Two kinds of interpreter for root: one that the account can run, and one in a directory that is closed to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from tests.security.machine import Ground, become_words

__all__ = ["CLOSED", "KINDS", "OPEN", "InterpreterMissingError", "interpreter_of"]

OPEN = "open"
CLOSED = "closed"
KINDS = (OPEN, CLOSED)
LIMIT = 60.0  # seconds
UNPRIVILEGED = 65534  # a user and group id without rights
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"


class InterpreterMissingError(Exception):
    """This machine has no interpreter of that kind."""


def interpreter_of(kind: str, ground: Ground) -> str:
    """Return an interpreter of *kind* that has the package. Raises `InterpreterMissingError`."""
    is_open = _is_open(ground, sys.executable)
    if is_open is (kind == OPEN):
        return sys.executable
    name = f"python{sysconfig.get_python_version()}"
    base = sys.executable if is_open else shutil.which(name, path=SEARCH_PATH)
    if base is None:
        raise InterpreterMissingError(f"this interpreter is closed to other users, and the system has no {name}")
    environment = f"{ground.directory}/{kind}"
    if not ground.seen_from_here(environment).exists():
        _create(ground, base, environment)
    if kind == CLOSED:
        ground.seen_from_here(environment).chmod(0o700)
    python = f"{environment}/bin/python"
    if _is_open(ground, python) is not (kind == OPEN):
        raise InterpreterMissingError(f"a virtual environment of {base} is not {kind} to other users")
    return python


def _create(ground: Ground, base: str, environment: str) -> None:
    """Create a virtual environment of *base* with a copy of the package and its dependencies."""
    ground.run(base, "-I", "-m", "venv", "--without-pip", environment)
    target = ground.seen_from_here(f"{environment}/lib/python{sysconfig.get_python_version()}/site-packages")
    for found in _closure():
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:  # no commands: they name the interpreter
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)


def _closure() -> Iterator[Distribution]:
    """Yield the package and its dependencies, without extras."""
    waiting, seen = [("mosaic-gateway", "")], set[tuple[str, str]]()
    while waiting:
        name, extra = waiting.pop()
        if (name.lower(), extra) in seen:
            continue
        seen.add((name.lower(), extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        yield package
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, each) for each in ("", *requirement.extras)]


def _is_open(ground: Ground, python: str) -> bool:
    words = [
        *ground.enter(),
        *become_words(UNPRIVILEGED, UNPRIVILEGED),
        python,
        "-P",
        "-c",
        "import mosaic_gateway_installer.cli, psycopg",
    ]
    return subprocess.run(words, capture_output=True, check=False, cwd="/", timeout=LIMIT).returncode == 0
