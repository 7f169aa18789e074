"""Check of a wheel file that the user names, before pip installs it."""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mosaic_gateway import fs
from mosaic_gateway.errors import UsageError
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION

__all__ = ["InvalidWheelError", "check_wheel"]

METADATA_LIMIT = 1 << 20  # bytes
#: What zipfile raises for damaged archives and for files that are no archives.
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, RuntimeError, ValueError)


class InvalidWheelError(UsageError):
    """The file is not a valid wheel of mosaic-gateway."""

    code = "INVALID_WHEEL"


def check_wheel(file: Path) -> None:
    """Raise `InvalidWheelError` for a *file* that is damaged, or that contains another project or version."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    hint = "Nothing was changed. Give the path of a readable file mosaic_gateway-VERSION-py3-none-any.whl"
    try:
        stream = fs.open_regular(os.path.realpath(file))
    except OSError as error:
        raise InvalidWheelError(f"{file} cannot be read: {error.strerror}", hint=hint) from error
    with stream:
        try:
            name, version, *_ = parse_wheel_filename(file.name)
        except InvalidWheelFilename as error:
            raise InvalidWheelError(f"{file} has no valid wheel file name", hint=hint) from error
        if name != DISTRIBUTION:
            raise InvalidWheelError(f"{file} is a wheel of {name}, not of {DISTRIBUTION}", hint=hint)
        try:
            identities = _identities(stream)
        except ARCHIVE_ERRORS as error:
            raise InvalidWheelError(
                f"{file} is damaged, or not a wheel: {error}", hint="Nothing was changed. Download the file again."
            ) from error
    for member, found_name, found_version in identities:
        with suppress(InvalidVersion):
            if canonicalize_name(found_name) == name and Version(found_version) == version:
                continue
        raise InvalidWheelError(
            f"{file} is named {name} {version}, but its {member} says {found_name} {found_version}", hint=hint
        )


def _identities(stream: BinaryIO) -> list[tuple[str, str, str]]:
    """Return the wheel's own statements of its identity: the member of the archive, project name and version.

    Reads at most `METADATA_LIMIT` bytes of METADATA, whatever size is declared. Raises the types in `ARCHIVE_ERRORS`.
    """
    from packaging.metadata import parse_email

    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("it has a duplicate file name")
        parts = [name.removesuffix("/").split("/") for name in names]
        if any(part in {"", ".", ".."} for path in parts for part in path):
            raise ValueError("it has a file name that points outside of the archive")
        infos = {path[0] for path in parts if path[0].lower().endswith(".dist-info")}
        if len(infos) != 1:
            raise ValueError(f"it has {len(infos)} directories *.dist-info")
        info = infos.pop()
        member = archive.getinfo(f"{info}/METADATA")
        # zipfile decompresses bzip2 and LZMA without a bound.
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError("its METADATA is neither stored nor deflated")
        with archive.open(member) as opened:
            content = opened.read(METADATA_LIMIT + 1)
    if len(content) > METADATA_LIMIT:
        raise ValueError(f"its METADATA is longer than {METADATA_LIMIT} bytes")
    metadata, _ = parse_email(content)
    name, _, version = info[: -len(".dist-info")].partition("-")
    return [
        ("directory *.dist-info", name, version),
        ("METADATA", metadata.get("name", "(no name)"), metadata.get("version", "(no version)")),
    ]
