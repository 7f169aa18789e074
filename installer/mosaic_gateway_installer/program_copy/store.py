"""Creates, finds, verifies and switches the program copies in a home's directory of programs.

A program copy is written to a temporary sibling directory, its manifest last, and renamed. A directory with a program
copy's name is therefore complete, except after a power failure, which is detected by the sizes in the manifest. In a
directory owned by root, every user can read the program copies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from importlib_resources import files

from mosaic_gateway import __version__, fs
from mosaic_gateway.fs.record_fields import PROGRAM_NAME
from mosaic_gateway.gateway.control import (
    CURRENT,
    MANIFEST,
    Program,
    ProgramMissingError,
    interpreter_missing,
    read_program,
    this_program,
)
from mosaic_gateway.installation import Home
from mosaic_gateway.process import OTHER_HOME, disk_full_as
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION, Part, closure, part_of
from mosaic_gateway_installer.program_copy.tree_writer import TreeWriter

__all__ = [
    "CopySpec",
    "altered_files",
    "base_interpreter",
    "find_copy",
    "is_of_this_package",
    "is_untouched",
    "is_whole",
    "make_copy",
    "program_copies",
    "runs_from_copy",
    "switch_to",
    "wanted_copy",
]

#: Version of the manifest's form, and of what else a program copy consists of.
FORM = 4
COMMAND = "mosaic-gateway"
#: The module that imports all others.
FINDER = "mosaic_modules"
#: What names of this module's targets begin with.
TARGETS = ("gateway-", CURRENT)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySpec:
    """The content of the program copy that this process would create."""

    python: Path
    parts: tuple[Part, ...]
    programs: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        """A digest that identifies a program copy of the same files for the same interpreter."""
        parts = [[part.name, part.version, part.digest] for part in self.parts]
        content = [FORM, str(self.python), sys.implementation.cache_tag, parts, self.programs]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def wanted_copy() -> CopySpec | None:
    """Return the program copy that this process would create, None if it runs from a program copy itself.

    Raises `PackageIncompleteError`, OSError.
    """
    if runs_from_copy():
        return None
    distributions, programs = closure()
    return CopySpec(
        python=base_interpreter(),
        parts=tuple(part_of(name, distribution) for name, distribution in sorted(distributions.items())),
        programs=tuple(sorted(programs.items())),
    )


def program_copies(home: Home) -> tuple[Path, ...]:
    """Return the program copies in *home*."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return tuple(sorted(path for path in home.runtime.iterdir() if PROGRAM_NAME.fullmatch(path.name)))
    return ()


def find_copy(home: Home, wanted: CopySpec) -> Path | None:
    """Return the directory of the program copy *wanted* in *home*, None if it is missing or altered."""
    for path in (home.runtime / name for name in _names(wanted)):
        with suppress(ProgramMissingError):
            if read_program(path).manifest.get("identity") == wanted.identity and not altered_files(path):
                return path
    return None


def is_of_this_package(program: Program) -> bool:
    """Return whether *program* is a complete copy of this package, for this interpreter.

    Only the distributions in the manifest are compared. The digests cover their metadata and so their requirements,
    which is why this takes a tenth of the time of `wanted_copy`. In a process that runs from a program copy, only
    completeness is checked. Raises OSError.
    """
    if runs_from_copy():
        return is_whole(program.directory)
    distributions = program.manifest.get("distributions", [])
    created_for = program.manifest.get("snapshot"), program.manifest.get("cache_tag"), program.python
    if created_for != (FORM, sys.implementation.cache_tag, base_interpreter()) or program.version != __version__:
        return False
    try:
        same = all(
            part_of(entry["name"], metadata.distribution(entry["name"])).digest == entry["digest"]
            for entry in distributions
        )
    except (metadata.PackageNotFoundError, KeyError):
        return False
    return bool(distributions) and same and is_untouched(program.directory)


def runs_from_copy(home: Home | None = None) -> bool:
    """Return whether this process runs from a program copy; of *home*, if given, whose copies may be removed."""
    words = this_program()
    return words[1] == "-I" and (home is None or Path(words[-1]).is_relative_to(home.runtime.resolve()))


def altered_files(path: Path) -> list[str]:
    """Return the files of the program copy *path* that are missing or differ from the manifest.

    Raises `ProgramMissingError`, OSError.
    """
    recorded = read_program(path).manifest["files"]
    files = recorded.items()
    return [
        name for name, (size, digest) in files if not fs.is_as_recorded(f"{path}/{name}", size, digest, follow=False)
    ]


def is_untouched(path: Path) -> bool:
    """Return whether no file of the program copy *path* was altered; faster than `altered_files`.

    The manifest was written last. Only files with a later ctime, which a user cannot set, are hashed. All files are
    hashed if the ctime of the manifest is later than its mtime: then the tree was copied, or its modes were changed.
    """
    try:
        recorded = read_program(path).manifest["files"]
        status = (path / MANIFEST).stat()
        created = status.st_ctime_ns if status.st_ctime_ns == status.st_mtime_ns else 0
        return all(_is_untouched(f"{path}/{name}", size, digest, created) for name, (size, digest) in recorded.items())
    except (ProgramMissingError, OSError, KeyError):
        return False


def _is_untouched(name: str, size: int, digest: str, created: int) -> bool:
    status = os.lstat(name)
    if status.st_ctime_ns <= created:
        return status.st_size == size
    return fs.is_as_recorded(name, size, digest, follow=False)


def is_whole(path: Path) -> bool:
    """Return whether every file of the program copy *path* exists with its recorded size."""
    with suppress(ProgramMissingError, OSError, KeyError):
        sizes = read_program(path).manifest["files"]
        # String concatenation: joining a Path takes ten times as long, and there are hundreds of files.
        return all(os.lstat(f"{path}/{name}").st_size == size for name, (size, _) in sizes.items())
    return False


def make_copy(home: Home, wanted: CopySpec, *, durable: bool = False) -> Path:
    """Return the directory of the program copy *wanted* in *home*; create it if needed. *durable*: fsync all files.

    Raises `FilesAlteredError`, `DiskFullError`, OSError.
    """
    present = find_copy(home, wanted)
    if present is not None:
        return present
    runtime = home.runtime
    fs.make_directory(runtime, _mode(home))
    target = runtime / _free_name(home, wanted)
    with disk_full_as("the gateway's program (30 MB)", runtime, hint=OTHER_HOME):
        fs.remove_temporaries(runtime, *TARGETS)
        with fs.staged(target, replace=True) as temporary:  # an existing one is damaged, else it was returned above
            _fill(temporary, home, wanted)
            if durable:
                fs.flush_tree(temporary)
    return target


def switch_to(home: Home, name: str | None) -> None:
    """Point the link ``current`` to the program copy *name*, and create the home's command; None: remove the link.

    Raises OSError.
    """
    runtime = home.runtime
    fs.remove_temporaries(runtime, *TARGETS)
    link = runtime / CURRENT
    if name is None:
        link.unlink(missing_ok=True)
        return
    with fs.staged(link) as temporary:
        temporary.symlink_to(name)
    command = home.launcher
    target = os.path.relpath(runtime / CURRENT / "bin" / COMMAND, command.parent)
    fs.make_directory(command.parent, _mode(home))
    if not command.is_symlink() or os.readlink(command) != target:  # noqa: PTH115 - compared as a string
        command.unlink(missing_ok=True)
        command.symlink_to(target)


def _names(wanted: CopySpec) -> tuple[str, str]:
    """Return the possible names of the program copy; the second is for a version whose name is used by another one."""
    name = f"gateway-{__version__}"
    return name, f"{name}_{wanted.identity[:8]}"


def _free_name(home: Home, wanted: CopySpec) -> str:
    first, second = _names(wanted)
    return second if is_whole(home.runtime / first) else first


def _mode(home: Home) -> int:
    """Return the mode of the program directories of *home*."""
    return 0o755 if home.programs is not None else 0o700


def _fill(temporary: Path, home: Home, wanted: CopySpec) -> None:
    temporary.mkdir(mode=0o700)
    top = os.open(temporary, DIRECTORY)
    try:
        writer = TreeWriter(top, public=home.programs is not None)
        copied: list[tuple[Part, list[str]]] = []
        for part in wanted.parts:
            before = len(writer.written)
            writer.copy(part.name, part.files())
            copied.append((part, list(writer.written)[before:]))
        archive_files = writer.write_modules()
        for part, own_names in copied:
            names = [*own_names, *archive_files] if part.name == DISTRIBUTION else own_names
            record = _record(part, [(name, writer.written[name]) for name in names])
            writer.write(f"{part.info}/RECORD", record.encode())
        writer.write(f"{FINDER}.py", (files(__package__) / "finder.py").read_bytes())
        writer.write("__main__.py", (files(__package__) / "entry.py").read_bytes())
        writer.write(f"bin/{COMMAND}", _script(home, wanted.python).encode(), executable=True)
        writer.write(MANIFEST, json.dumps(_manifest(wanted, writer)).encode())
        os.fchmod(top, _mode(home))
    finally:
        os.close(top)


def _record(part: Part, written: Sequence[tuple[str, tuple[int, str]]]) -> str:
    """Return the content of RECORD for the files *written* of *part*."""
    lines = [
        f"{_quoted(name)},{fs.recorded_hash('sha256', bytes.fromhex(digest))},{size}"
        for name, (size, digest) in written
    ]
    return "".join(f"{line}\n" for line in [*lines, f"{part.info}/RECORD,,"])


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""')) if "," in name or '"' in name else name


def _manifest(wanted: CopySpec, writer: TreeWriter) -> dict[str, object]:
    return {
        "snapshot": FORM,
        "version": __version__,
        "identity": wanted.identity,
        "python": str(wanted.python),
        "library": os.__file__,
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
    """Return the home's command; without its interpreter it says what to do, with the exit code of a failed check."""
    current, library = shlex.quote(str(home.runtime / CURRENT)), shlex.quote(os.__file__)
    error = interpreter_missing(python, home.path, home.path)
    lines = (f"error [{error.code}]: {error.message}", str("hint: " + error.hint))
    return f"""#!/bin/sh
MOSAIC_GATEWAY_HOME={shlex.quote(str(home.path))}
MOSAIC_GATEWAY_COMMAND=$0
export MOSAIC_GATEWAY_HOME MOSAIC_GATEWAY_COMMAND
python={shlex.quote(str(python))}
if [ -x "$python" ] && [ -r {library} ]; then
  exec "$python" -I -S -B {current} "$@"
fi
printf '%s\\n' {shlex.join(lines)} >&2
exit {int(error.exit_code)}
"""


@cache
def base_interpreter() -> Path:
    """Return the base interpreter of a virtual environment, by its versioned name (``python3.12``) if it has one.

    After an upgrade of the system ``python3`` may be another version, for which byte code and compiled modules are
    invalid.
    """
    executable = Path(getattr(sys, "_base_executable", "") or sys.executable)
    versioned = executable.with_name(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return versioned if versioned.exists() and versioned.samefile(executable) else executable
