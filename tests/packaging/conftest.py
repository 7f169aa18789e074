"""Fixtures that copy the project and build it, in scratch directories and without network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

TIMEOUT = 120.0  # seconds, for one build
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".tox", "dist", "build", "__pycache__", "*.py[cod]", ".*_cache", ".hypothesis", "node_modules",
)  # fmt: skip


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The source tree that contains these tests."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def clean_copy(checkout: Path) -> Callable[[Path], Path]:
    """Copy the files of the project into a directory, without untracked files such as caches."""

    def copy(destination: Path) -> Path:
        if not (checkout / ".git").exists():
            shutil.copytree(checkout, destination, ignore=NOT_SOURCE, dirs_exist_ok=True)
            return destination
        for name in _project_files(checkout):
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, target)
        return destination

    return copy


def _project_files(checkout: Path) -> list[str]:
    """Return the files that git tracks or would track, without deleted ones."""
    command = ["git", "-c", "safe.directory=*", "-C", str(checkout), "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT).stdout.decode()
    return [name for name in listed.split("\0") if name and (checkout / name).is_file()]


@pytest.fixture(scope="session")
def hatch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Build one target of a tree into a directory; ``environ`` adds to the environment."""

    def build(
        tree: Path, target: str, out: Path, *, environ: dict[str, str] | None = None, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        retained = {k: v for k, v in os.environ.items() if not k.startswith("HATCH_") and k != "SOURCE_DATE_EPOCH"}
        return subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
            cwd=tree, env={**retained, **(environ or {})}, umask=umask,
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def unpack() -> Callable[[Path, Path], Path]:
    """Unpack an sdist into a directory and return the source tree in it."""

    def extract(sdist: Path, directory: Path) -> Path:
        with tarfile.open(sdist) as archive:
            # Python before 3.11.4 has no filters; 3.12 and 3.13 warn if none is chosen.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(directory)  # noqa: S202 - the archive was built by the test
        return directory / sdist.name.removesuffix(".tar.gz")

    return extract


@pytest.fixture(scope="session")
def build_both(
    hatch: Callable[..., subprocess.CompletedProcess[str]], unpack: Callable[[Path, Path], Path]
) -> Callable[..., str]:
    """Build a tree's sdist, and the wheel from that sdist, as ``python -m build`` does.

    Returns the output of a failed build, else an empty string; the sdist is unpacked in ``scratch``.
    """

    def build(
        tree: Path, out: Path, scratch: Path, *, environ: dict[str, str] | None = None, umask: int = 0o022
    ) -> str:
        done = hatch(tree, "sdist", out, environ=environ, umask=umask)
        if done.returncode:
            return done.stdout + done.stderr
        [sdist] = out.glob("*.tar.gz")
        done = hatch(unpack(sdist, scratch), "wheel", out, environ=environ, umask=umask)
        return done.stdout + done.stderr if done.returncode else ""

    return build


@pytest.fixture(scope="session")
def distributions(
    tmp_path_factory: pytest.TempPathFactory, clean_copy: Callable[[Path], Path], build_both: Callable[..., str]
) -> Path:
    """A directory with the project's sdist and the wheel built from it; tests must not change it."""
    out = tmp_path_factory.mktemp("distributions")
    failure = build_both(clean_copy(tmp_path_factory.mktemp("tree")), out, tmp_path_factory.mktemp("unpacked"))
    assert not failure, failure
    return out
