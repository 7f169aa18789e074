"""The snapshots in a home's ``runtime`` directory: made, found, switched, removed.

One is made in a temporary sibling, its manifest last, and renamed; so what has a name is whole, but for a power
failure, after which the sizes in the manifest tell. As root it belongs to root, and the home's account may read it:
what root may have to run, nobody else may change. The directory around it is the account's, so everything in it
is named relative to an open descriptor.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from importlib_resources import files

from mosaic_gateway import __version__
from mosaic_gateway.config import Home
from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.files import make_directory
from mosaic_gateway.flushing import flush_tree
from mosaic_gateway.gateway.program import (
    CURRENT,
    MANIFEST,
    NAME,
    Program,
    ProgramMissingError,
    read_program,
    this_program,
)
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.snapshot.closure import DISTRIBUTION, closure
from mosaic_gateway_installer.snapshot.copying import TreeWriter
from mosaic_gateway_installer.snapshot.parts import Part, part_of

__all__ = [
    "Wanted",
    "altered_files",
    "base_interpreter",
    "find_snapshot",
    "is_of_this_package",
    "is_untouched",
    "is_whole",
    "launcher",
    "make_snapshot",
    "remove_from_runtime",
    "remove_snapshots",
    "snapshots",
    "switch_to",
    "wanted_snapshot",
]

#: Version of the manifest's form, and of what else a snapshot consists of.
FORM = 2
COMMAND = "mosaic-gateway"
#: The module that finds all others.
FINDER = "mosaic_modules"
TEMPORARY = re.compile(r"\.(gateway-[\w.+!]+|current)\.[0-9a-f]{8}\.tmp")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The snapshot that this process would make: what goes into it, and a digest of all that."""

    python: Path
    parts: tuple[Part, ...]
    programs: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        """A digest by which a snapshot of the very same files for the same interpreter is known."""
        listed = [[part.name, part.version, part.digest] for part in self.parts]
        facts = [FORM, str(self.python), sys.implementation.cache_tag, listed, self.programs]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def wanted_snapshot() -> Wanted | None:
    """Return the snapshot that this process would make, None where it runs from one itself.

    Raises `PackageIncompleteError`, OSError.
    """
    if is_snapshot():
        return None
    found, programs = closure()
    return Wanted(
        python=base_interpreter(),
        parts=tuple(part_of(name, distribution) for name, distribution in sorted(found.items())),
        programs=tuple(sorted(programs.items())),
    )


def launcher(home: Home) -> Path:
    """Return the command in *home* that runs its current snapshot."""
    return home.path / "bin" / COMMAND


def snapshots(home: Home) -> tuple[Path, ...]:
    """Return the snapshots in *home*."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return tuple(sorted(path for path in home.runtime.iterdir() if NAME.fullmatch(path.name)))
    return ()


def find_snapshot(home: Home, wanted: Wanted) -> Path | None:
    """Return the snapshot that *wanted* asks for, if *home* has it, whole."""
    for path in (home.runtime / name for name in _names(wanted)):
        with suppress(ProgramMissingError):
            if read_program(path).manifest.get("identity") == wanted.identity and not altered_files(path):
                return path
    return None


def is_of_this_package(program: Program) -> bool:
    """Return whether *program* is a whole copy of what is installed here, for this interpreter.

    Asks only for what its manifest lists: what a distribution needs stands in its metadata, which it has a digest of;
    so it takes a tenth of the time of `wanted_snapshot`. True for a copy that asks about itself. Raises OSError.
    """
    if is_snapshot():
        return is_whole(program.directory)
    listed = program.manifest.get("distributions", [])
    made_for = program.manifest.get("snapshot"), program.manifest.get("cache_tag"), program.python
    if made_for != (FORM, sys.implementation.cache_tag, base_interpreter()) or program.version != __version__:
        return False
    try:
        same = all(part_of(one["name"], metadata.distribution(one["name"])).digest == one["digest"] for one in listed)
    except (metadata.PackageNotFoundError, KeyError):
        return False
    return bool(listed) and same and is_untouched(program.directory)


def is_snapshot() -> bool:
    """Return whether this process runs from a snapshot."""
    return this_program().words[1] == "-I"


def altered_files(path: Path) -> list[str]:
    """Return the files of the snapshot *path* that are missing or not as they were copied.

    Raises `ProgramMissingError`, OSError.
    """
    recorded = read_program(path).manifest["files"]
    return [name for name, (size, digest) in recorded.items() if not _is_as_copied(f"{path}/{name}", size, digest)]


def is_untouched(path: Path) -> bool:
    """Return whether every file of the snapshot *path* is as it was copied; quicker than `altered_files`.

    The manifest was written last. A file with a later time of change (ctime, which nobody can set) is hashed; all are
    if the manifest itself has one later than its content, because then the tree was copied, or modes were set anew.
    """
    try:
        recorded = read_program(path).manifest["files"]
        status = (path / MANIFEST).stat()
        made = status.st_ctime_ns if status.st_ctime_ns == status.st_mtime_ns else 0
        return all(_is_untouched(f"{path}/{name}", size, digest, made) for name, (size, digest) in recorded.items())
    except (ProgramMissingError, OSError, KeyError):
        return False


def _is_untouched(name: str, size: int, digest: str, made: int) -> bool:
    status = os.stat(name)  # noqa: PTH116 - as in is_whole
    if status.st_ctime_ns <= made:
        return status.st_size == size
    return _is_as_copied(name, size, digest)


def _is_as_copied(name: str, size: int, digest: str) -> bool:
    try:
        with open(name, "rb", buffering=0) as stream:  # noqa: PTH123 - as in is_whole
            content = stream.readall()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return len(content) == size and hashlib.sha256(content).hexdigest() == digest


def is_whole(path: Path) -> bool:
    """Return whether every file of the snapshot *path* is there in its length."""
    with suppress(ProgramMissingError, OSError, KeyError):
        sizes = read_program(path).manifest["files"]
        # Not Path's own joining: it takes ten times as long, and there are hundreds.
        return all(os.stat(f"{path}/{name}").st_size == size for name, (size, _) in sizes.items())  # noqa: PTH116 - quicker
    return False


def make_snapshot(home: Home, wanted: Wanted, account: Account | None, *, durable: bool = False) -> Path:
    """Return the snapshot *wanted* of *home*, made if it is not there. *durable*: it is on disk before the return.

    Raises `FilesAlteredError`, `DiskFullError`, OSError.
    """
    present = find_snapshot(home, wanted)
    if present is not None:
        return present
    with assume(account):
        make_directory(home.runtime)
    try:
        with _runtime(home) as runtime:
            _remove(runtime, [name for name in _listed(runtime) if TEMPORARY.fullmatch(name)])
            name = _free_name(home, wanted)
            temporary = f".{name}.{secrets.token_hex(4)}.tmp"
            try:
                _fill(runtime, temporary, home, wanted, account)
                if durable:
                    flush_tree(home.runtime / temporary)
                with suppress(FileNotFoundError):  # damaged: a whole one would have been found
                    aside = f".{name}.{secrets.token_hex(4)}.tmp"
                    os.rename(name, aside, src_dir_fd=runtime, dst_dir_fd=runtime)
                    _remove(runtime, [aside])
                os.rename(temporary, name, src_dir_fd=runtime, dst_dir_fd=runtime)
                os.fsync(runtime)
            finally:
                _remove(runtime, [temporary])
    except OSError as error:
        if error.errno in FULL_DISK:
            raise DiskFullError(
                f"There is no room for the gateway's program (30 MB) in {home.runtime}",
                hint="Free some space there, or choose another --home, then try again.",
            ) from error
        raise
    return home.runtime / name


def switch_to(home: Home, name: str | None, account: Account | None) -> None:
    """Let ``current`` lead to the snapshot *name* (None: to none), and make the home's command. Raises OSError."""
    with _runtime(home) as runtime:
        _remove(runtime, [one for one in _listed(runtime) if TEMPORARY.fullmatch(one)])
        if name is None:
            with suppress(FileNotFoundError):
                os.unlink(CURRENT, dir_fd=runtime)
            return
        temporary = f".{CURRENT}.{secrets.token_hex(4)}.tmp"
        os.symlink(name, temporary, dir_fd=runtime)
        os.rename(temporary, CURRENT, src_dir_fd=runtime, dst_dir_fd=runtime)
        os.fsync(runtime)
    command = launcher(home)
    target = f"../{home.runtime.name}/{CURRENT}/bin/{COMMAND}"
    with assume(account):
        make_directory(command.parent)
        if not command.is_symlink() or os.readlink(command) != target:  # noqa: PTH115 - a text is compared
            command.unlink(missing_ok=True)
            command.symlink_to(target)


def remove_snapshots(home: Home, *, keep: Collection[str] = ()) -> tuple[str, ...]:
    """Remove the snapshots of *home* but those named in *keep*, and return the names of what went. Raises OSError."""
    if not home.runtime.is_dir():
        return ()
    with _runtime(home) as runtime:
        names = _listed(runtime)
        gone = [name for name in names if NAME.fullmatch(name) and name not in keep]
        _remove(runtime, [*gone, *(name for name in names if TEMPORARY.fullmatch(name))])
    return tuple(gone)


def remove_from_runtime(home: Home, names: re.Pattern[str]) -> None:
    """Remove all that *names* matches from the home's ``runtime``, as ourselves. Raises OSError."""
    if home.runtime.is_dir():
        with _runtime(home) as runtime:
            _remove(runtime, [name for name in _listed(runtime) if names.fullmatch(name)])


def _names(wanted: Wanted) -> tuple[str, str]:
    """Return the names that the snapshot may have: the second where the first is taken by other files."""
    name = f"gateway-{__version__}"
    return name, f"{name}_{wanted.identity[:8]}"


def _free_name(home: Home, wanted: Wanted) -> str:
    first, second = _names(wanted)
    return second if is_whole(home.runtime / first) else first


@contextmanager
def _runtime(home: Home) -> Iterator[int]:
    """Give a descriptor of the home's ``runtime`` directory, which is no link."""
    outer = os.open(home.path, DIRECTORY)
    try:
        inner = os.open(home.runtime.name, DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        yield inner
    finally:
        os.close(inner)


def _fill(runtime: int, temporary: str, home: Home, wanted: Wanted, account: Account | None) -> None:
    os.mkdir(temporary, 0o700, dir_fd=runtime)
    top = os.open(temporary, DIRECTORY | os.O_NOFOLLOW, dir_fd=runtime)
    try:
        if os.fstat(top).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "somebody else has put it there", str(home.runtime / temporary))
        group = account.gid if account is not None else None
        os.fchmod(top, 0o750 if group is not None else 0o700)
        if group is not None:
            os.fchown(top, -1, group)
        writer = TreeWriter(top, group)
        recorded: list[tuple[Part, list[str]]] = []
        for part in wanted.parts:
            before = len(writer.written)
            writer.copy(part.name, part.files())
            recorded.append((part, list(writer.written)[before:]))
        of_all = writer.write_modules()
        for part, names in recorded:
            listed = [*names, *of_all] if part.name == DISTRIBUTION else names
            writer.write(
                f"{part.info}/RECORD", _record(part, [(name, writer.written[name]) for name in listed]).encode()
            )
        writer.write(f"{FINDER}.py", (files(__package__) / "finder.py").read_bytes())
        writer.write("__main__.py", (files(__package__) / "entry.py").read_bytes())
        writer.write(f"bin/{COMMAND}", _script(home, wanted.python).encode(), executable=True)
        writer.write(MANIFEST, json.dumps(_manifest(wanted, writer)).encode())
    finally:
        os.close(top)


def _record(part: Part, written: Sequence[tuple[str, tuple[int, str]]]) -> str:
    """Return a RECORD of what was *written* of *part*, by which a later look finds what was changed."""
    import base64

    lines = [
        f"{_quoted(name)},sha256={base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip('=')},{size}"
        for name, (size, digest) in written
    ]
    return "".join(f"{line}\n" for line in [*lines, f"{part.info}/RECORD,,"])


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""')) if "," in name or '"' in name else name


def _manifest(wanted: Wanted, writer: TreeWriter) -> dict[str, object]:
    return {
        "snapshot": FORM,
        "version": __version__,
        "identity": wanted.identity,
        "python": str(wanted.python),
        "cache_tag": sys.implementation.cache_tag,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "distributions": [
            {"name": part.name, "version": part.version, "verified": part.verified, "digest": part.digest}
            for part in wanted.parts
        ],
        "programs": dict(wanted.programs),
        "files": writer.written,
    }


def _script(home: Home, python: Path) -> str:
    current = shlex.quote(str(home.runtime / CURRENT))
    return (
        "#!/bin/sh\n"
        f"MOSAIC_GATEWAY_HOME={shlex.quote(str(home.path))}\n"
        "export MOSAIC_GATEWAY_HOME\n"
        f'exec {shlex.quote(str(python))} -I -S -B {current} "$@"\n'
    )


def _listed(runtime: int) -> list[str]:
    return sorted(os.listdir(runtime))


def _remove(runtime: int, names: Collection[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=runtime, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=runtime)
            else:
                os.unlink(name, dir_fd=runtime)


@cache
def base_interpreter() -> Path:
    """Return the interpreter beneath any virtual environment, under the name that stays with its version.

    ``python3`` may mean another version after an upgrade of the system; byte code and compiled modules do not fit then.
    """
    found = Path(getattr(sys, "_base_executable", "") or sys.executable)
    versioned = found.with_name(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return versioned if versioned.exists() and versioned.samefile(found) else found
