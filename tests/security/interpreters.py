"""Two kinds of interpreter for root: one that the account can enter, and one under a directory that is closed to it."""

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
OTHERS = 65534  # a user id without any rights
PLACES = "/usr/local/bin:/usr/bin:/bin"


class InterpreterMissingError(Exception):
    """This machine has no interpreter of that kind."""


def interpreter_of(kind: str, ground: Ground) -> str:
    """Return an interpreter of *kind* that has the package. Raises `InterpreterMissingError`."""
    is_open = _is_open(ground, sys.executable)
    if is_open is (kind == OPEN):
        return sys.executable
    name = f"python{sysconfig.get_python_version()}"
    base = sys.executable if is_open else shutil.which(name, path=PLACES)
    if base is None:
        raise InterpreterMissingError(f"our interpreter is closed to other users, and the system has no {name}")
    place = f"{ground.directory}/{kind}"
    if not ground.seen_from_here(place).exists():
        _make(ground, base, place)
    if kind == CLOSED:
        ground.seen_from_here(place).chmod(0o700)
    python = f"{place}/bin/python"
    if _is_open(ground, python) is not (kind == OPEN):
        raise InterpreterMissingError(f"{base} makes no interpreter that is {kind} to other users")
    return python


def _make(ground: Ground, base: str, place: str) -> None:
    """Make a virtual environment of *base* at *place* with a copy of the package and all that it needs."""
    ground.run(base, "-I", "-m", "venv", "--without-pip", place)
    target = ground.seen_from_here(f"{place}/lib/python{sysconfig.get_python_version()}/site-packages")
    for found in _closure():
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:  # no commands: they name the interpreter
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)


def _closure() -> Iterator[Distribution]:
    """Yield the package and what it needs, extras left out."""
    waiting, seen = [("mosaic-gateway", "")], set[tuple[str, str]]()
    while waiting:
        name, extra = waiting.pop()
        if (name.lower(), extra) in seen:
            continue
        seen.add((name.lower(), extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        yield found
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, wanted) for wanted in ("", *needed.extras)]


def _is_open(ground: Ground, python: str) -> bool:
    words = [
        *ground.enter(),
        *become_words(OTHERS, OTHERS),
        python,
        "-P",
        "-c",
        "import mosaic_gateway_installer.cli, psycopg",
    ]
    return subprocess.run(words, capture_output=True, check=False, cwd="/", timeout=LIMIT).returncode == 0
