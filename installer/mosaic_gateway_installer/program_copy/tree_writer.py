"""Copies the files of a snapshot into an open directory and verifies each against its recorded hash.

Modules are written into one uncompressed zip archive, from which `finder` imports them, other files as files. Byte code
is copied if its header matches the source's mtime and size (PEP 3147, PEP 552), else compiled, because it cannot be
written later.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

from mosaic_gateway import fs
from mosaic_gateway.errors import PreflightError
from mosaic_gateway_installer.program_copy.distributions import CACHE, SourceFile
from mosaic_gateway_installer.program_copy.finder import ARCHIVE, INDEX

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["FilesAlteredError", "Module", "TreeWriter", "archive_of", "archived"]

SOURCE = ".py"
PACKAGE = "/__init__.py"
MODE = 0o100600 << 16
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LAST = 0xFFFFFFFF
HEADER = 16  # bytes before the code: magic number, flags, mtime, size


def archived(paths: Collection[str]) -> frozenset[str]:
    """Return the *paths* to store in the archive: modules whose parent packages are all regular packages. Pure.

    If a compiled module has the same name as a source, the source is not archived, because the import system prefers
    the compiled module, which stays a file.
    """
    compiled = {path.removesuffix(ending) for path in paths for ending in EXTENSION_SUFFIXES if path.endswith(ending)}
    modules = {
        path
        for path in paths
        if path.endswith(SOURCE)
        and all(map(str.isidentifier, path.removesuffix(SOURCE).split("/")))
        and path.removesuffix(SOURCE) not in compiled
    }

    def is_package(directory: str) -> bool:
        return not directory or (directory + PACKAGE in modules and is_package(directory.rpartition("/")[0]))

    return frozenset(path for path in modules if is_package(path.rpartition("/")[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module: its ``source``, and its byte ``code``, if any, under the name ``cached``.

    ``mtime`` is the modification time of the source in seconds, which the header of the byte code contains.
    """

    path: str
    source: bytes
    cached: str
    code: bytes
    mtime: int


def archive_of(modules: Iterable[Module]) -> tuple[bytes, bytes]:
    """Return the archive of *modules* and the index file for `finder`, which has the offsets in it. Pure."""
    content = io.BytesIO()
    index = []
    with ZipFile(content, "w") as archive:

        def add(path: str, data: bytes) -> int:
            entry = ZipInfo(path)  # of 1980-01-01, the earliest date of the format
            entry.external_attr = MODE
            archive.writestr(entry, data)
            return content.seek(0, io.SEEK_END) - len(data)

        for one in modules:
            source, code = add(one.path, one.source), add(one.cached, one.code) if one.code else 0
            index.append(f"{source},{len(one.source)},{code},{len(one.code)},{one.mtime} {one.path}\n")
    return content.getvalue(), "".join(index).encode()


class FilesAlteredError(PreflightError):
    """Files of the package are missing or were changed after they were installed."""

    code = "FILES_ALTERED"


@dataclass(slots=True)
class TreeWriter:
    """Writes files below the directory with the descriptor *top*; ``written`` maps path → size and SHA-256 (hex).

    With *public* every user can read the files, else only the owner.
    """

    top: int
    public: bool
    written: dict[str, tuple[int, str]] = field(default_factory=dict)
    _modules: list[Module] = field(default_factory=list)
    _directories: set[str] = field(default_factory=set)

    def copy(self, package: str, files: Sequence[SourceFile]) -> None:
        """Copy *files* of *package*, modules into the archive. Raises `FilesAlteredError`, OSError."""
        modules = archived([file.target for file in files])
        for file in files:
            try:
                descriptor = os.open(file.source, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise _altered(package, file) from error
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                status = os.fstat(descriptor)
                content = stream.readall()
            digest = hashlib.sha256(content)
            if file.recorded is not None and not _matches(digest, content, file.recorded):
                raise _altered(package, file)
            cached, code = _code(file, content, status) if file.target.endswith(".py") else ("", b"")
            if file.target in modules:
                mtime = int(status.st_mtime) & LAST
                self._modules.append(Module(path=file.target, source=content, cached=cached, code=code, mtime=mtime))
                continue
            self._write(file.target, content, digest, mtime_ns=status.st_mtime_ns)
            if code:
                self.write(cached, code)

    def write_modules(self) -> tuple[str, ...]:
        """Write the archive of the copied modules and its index; return their names. Raises OSError."""
        content, index = archive_of(self._modules)
        self.write(ARCHIVE, content)
        self.write(INDEX, index)
        return ARCHIVE, INDEX

    def write(self, path: str, content: bytes, *, executable: bool = False) -> None:
        """Write the new file *path*. Raises OSError."""
        self._write(path, content, hashlib.sha256(content), executable=executable)

    def _write(
        self, path: str, content: bytes, digest: Hash, *, mtime_ns: int | None = None, executable: bool = False
    ) -> None:
        self._make_directories(path)
        mode = (0o755 if executable else 0o644) if self.public else (0o700 if executable else 0o600)
        descriptor = os.open(path, NEW_FILE, mode, dir_fd=self.top)
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if mtime_ns is not None:
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(descriptor)
        self.written[path] = len(content), digest.hexdigest()

    def _make_directories(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if not parent or parent in self._directories:
            return
        self._make_directories(parent)
        mode = 0o755 if self.public else 0o700
        os.mkdir(parent, mode, dir_fd=self.top)
        os.chmod(parent, mode, dir_fd=self.top)
        self._directories.add(parent)


def _code(file: SourceFile, content: bytes, status: os.stat_result) -> tuple[str, bytes]:
    """Return the path and the content of the byte code of *file*; the content is empty if it cannot be compiled."""
    directory, _, name = file.target.rpartition("/")
    cached = f"{CACHE}/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
    path = f"{directory}/{cached}" if directory else cached
    header = _header(status)
    code = b""
    with suppress(OSError), open(f"{file.source.rpartition('/')[0]}/{cached}", "rb", buffering=0) as stream:  # noqa: PTH123 - faster
        code = stream.readall()
    if code[:HEADER] != header:
        try:
            code = header + marshal.dumps(compile(content, file.target, "exec", dont_inherit=True))
        except (SyntaxError, ValueError):
            return path, b""
    return path, code


def _header(status: os.stat_result) -> bytes:
    """Return the header of timestamp-based byte code for a source with *status*."""
    time, size = int(status.st_mtime) & LAST, status.st_size & LAST
    return importlib.util.MAGIC_NUMBER + bytes(4) + time.to_bytes(4, "little") + size.to_bytes(4, "little")


def _matches(digest: Hash, content: bytes, recorded: str) -> bool:
    """Return whether *content*, whose SHA-256 is *digest*, has the hash *recorded* (``algorithm=base64``)."""
    algorithm = recorded.partition("=")[0]
    actual = digest if algorithm == digest.name else hashlib.new(algorithm, content)
    return recorded == fs.recorded_hash(algorithm, actual.digest())


def _altered(package: str, file: SourceFile) -> FilesAlteredError:
    return FilesAlteredError(
        f"{file.source} is missing, or was changed after it was installed",
        hint=f"Reinstall the package: pip install --force-reinstall --no-deps {package}",
        details={"file": file.source},
    )
