"""Builds wheels of this tree with other versions and migrations, and wheels of its dependencies.

The gateway's wheels are built by hatchling from a copy of the tree. The others are packed from the installed
distributions by their RECORD, so that pip needs no network.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mosaic_gateway.migrations.gate import LOCK_NAME, make_lock, read_directory
from mosaic_gateway_installer.program_copy.distributions import closure

BUILD_LIMIT = 120.0  # seconds
SOURCES = ("src", "installer", "pyproject.toml", "README.md", "LICENSE")
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.py[cod]")
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Tree:
    """A copy of the source tree, which is changed before it is built."""

    path: Path

    def set_version(self, version: str) -> None:
        """Set the version."""
        init = self.path / "src/mosaic_gateway/__init__.py"
        init.write_text(re.sub(r'__version__ = "[^"]+"', f'__version__ = "{version}"', init.read_text()))

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the text *old* in *file*, which must contain it."""
        path = self.path / file
        text = path.read_text()
        assert old in text, (file, old)
        path.write_text(text.replace(old, new))

    def keep_migrations(self, count: int) -> None:
        """Remove all gateway migrations except for the first *count*."""
        journal = self._journal()
        for entry in journal["entries"][count:]:
            (self._gateway / f"{entry['tag']}.sql").unlink()
        journal["entries"] = journal["entries"][:count]
        self._write(journal)

    def add_migration(self, name: str, *statements: str) -> None:
        """Add a gateway migration."""
        journal = self._journal()
        number = len(journal["entries"])
        tag = f"{number:04}_{name}"
        text = "\n--> statement-breakpoint\n".join(statements)
        (self._gateway / f"{tag}.sql").write_text(f"{text}\n")
        when = max(entry["when"] for entry in journal["entries"]) + 1000
        journal["entries"].append({"idx": number, "version": "7", "when": when, "tag": tag, "breakpoints": True})
        self._write(journal)

    @property
    def _gateway(self) -> Path:
        return self.path / "src/mosaic_gateway/sql/gateway"

    def _journal(self) -> dict[str, list[dict[str, Any]]]:
        value: dict[str, list[dict[str, Any]]] = json.loads((self._gateway / "meta/_journal.json").read_text())
        return value

    def _write(self, journal: object) -> None:
        (self._gateway / "meta/_journal.json").write_text(json.dumps(journal, indent=2) + "\n")
        files = {name.removeprefix("gateway/"): data for name, data in read_directory(self._gateway.parent).items()
                 if name.startswith("gateway/")}  # fmt: skip
        (self._gateway / LOCK_NAME).write_bytes(make_lock("gateway", files))


def build_wheel(scratch: Path, out: Path, version: str, *changes: Callable[[Tree], None]) -> Path:
    """Build this tree as *version*, with *changes*, into *out*."""
    tree = Tree(scratch / version)
    tree.path.mkdir()
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tree.path / name, ignore=NOT_SOURCE)
        else:
            shutil.copy2(source, tree.path / name)
    tree.set_version(version)
    for change in changes:
        change(tree)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out],
        cwd=tree.path, check=True, capture_output=True, timeout=BUILD_LIMIT,
    )  # fmt: skip
    return out / f"mosaic_gateway-{version}-py3-none-any.whl"


def pack_dependencies(out: Path) -> None:
    """Write a wheel into *out* for each distribution that a gateway needs, including PostgreSQL's."""
    libraries, programs = closure()
    names = {*libraries, *programs, *_requirements_of(programs)} - {"mosaic-gateway"}
    for name in sorted(names):
        _pack(metadata.distribution(name), out)


def _requirements_of(names: Iterable[str]) -> set[str]:
    required = [text for name in names for text in metadata.requires(name) or () if "extra ==" not in text]
    return {re.split(r"[^A-Za-z0-9._-]", text)[0] for text in required}


def _pack(distribution: metadata.Distribution, out: Path) -> None:
    """Write the installed *distribution* as a wheel with its original files."""
    tag = re.findall(r"^Tag: (\S+)$", distribution.read_text("WHEEL") or "", re.MULTILINE)[0]
    name = re.sub(r"[-_.]+", "_", distribution.metadata["Name"]).lower()
    base = Path(str(distribution.locate_file("")))
    info = next(str(file).split("/")[0] for file in distribution.files or () if ".dist-info/" in str(file))
    rows = (distribution.read_text("RECORD") or "").splitlines()
    retained = [row for row in rows if row.split(",")[1].startswith("sha256=") and not row.startswith("..")]
    excluded = {f"{info}/{file}" for file in ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")}
    retained = [row for row in retained if row.rsplit(",", 2)[0] not in excluded]
    with zipfile.ZipFile(out / f"{name}-{distribution.version}-{tag}.whl", "w") as archive:
        for row in retained:
            path = row.rsplit(",", 2)[0]
            archive.write(base / path, path)
        archive.writestr(f"{info}/RECORD", "".join(f"{row}\n" for row in [*retained, f"{info}/RECORD,,"]))
