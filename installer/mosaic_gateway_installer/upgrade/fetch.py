"""Another version's package, fetched by pip into a directory of its own, and its installer run from there.

Theory of operation. Two programs work for us, one after the other: pip, then the installer that it fetched. Each has
a session of its own, so that a signal reaches it through us alone, and once. An interruption (SIGINT, SIGTERM, SIGHUP)
kills pip with its children, and the verb ends as interrupted; the installer gets the signal itself, and what it returns
is the result. When we are killed, the kernel kills the one that runs (Linux). All that both need, pip's temporary files
included, lies in one directory with a name of ours. It is locked while it is in use, so that the next run can remove
what a killed one left.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mosaic_gateway.config import process_environment
from mosaic_gateway.errors import InternalError, PreflightError, UsageError
from mosaic_gateway.fs.files import open_regular
from mosaic_gateway.process.command import ending_of, follow_parent
from mosaic_gateway.process.interruptions import INTERRUPTIONS, Interruptions
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION
from mosaic_gateway_installer.program_copy.store import base_interpreter

__all__ = ["PackageSource", "run_fetched"]

PIP_LIMIT = 1800.0  # seconds
PROBE_LIMIT = 30.0
REMOVE_LIMIT = 5.0
OUTPUT_LIMIT = 4000  # bytes of pip's output that an error carries
METADATA_LIMIT = 1 << 20  # bytes
#: Of the names of our temporary directories.
PREFIX = "mosaic-gateway-fetch-"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: What zipfile raises for archives that are none.
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, RuntimeError, ValueError)
#: What the other version is run by: everything that it imports comes from the directory.
RUN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'mosaic-gateway'; "
    "from mosaic_gateway_installer.cli import main; sys.exit(main())"
)


class PipMissingError(PreflightError):
    """Neither this environment nor the interpreter has pip."""

    code = "PIP_MISSING"


class NotOurWheelError(UsageError):
    """The file that was named is no wheel of mosaic-gateway."""

    code = "NOT_OUR_WHEEL"


class FetchFailedError(PreflightError):
    """pip could not provide the version; its own words are in the message."""

    code = "FETCH_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """Which package: a wheel's file or a version; where to look (``find_links``), and whether only there.

    ``extras`` are fetched with it.
    """

    wheel: Path | None = None
    version: str | None = None
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError where the options make no sense together."""
        if self.wheel is not None and self.version is not None:
            raise UsageError("--wheel and --version exclude each other", hint="Give one of the two.")
        if not self.given and (self.find_links or self.no_index):
            raise UsageError("--find-links and --no-index are for --wheel and --version", hint="Leave them out.")

    @property
    def given(self) -> bool:
        """Whether another package than this one is meant."""
        return self.wheel is not None or self.version is not None

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        if self.wheel is not None:
            return f"{self.wheel.absolute()}{extras}"
        return f"{DISTRIBUTION}{extras}=={self.version}"

    @property
    def places(self) -> tuple[str, ...]:
        """Where pip looks, directories by their whole path: it works in another one than we."""
        return tuple(str(Path(place).absolute()) if Path(place).is_dir() else place for place in self.find_links)


@dataclass(frozen=True, slots=True)
class _Scratch:
    """A temporary directory of ours, and the descriptor that holds the lock on it."""

    path: Path
    lock: int

    @property
    def package(self) -> Path:
        """Where pip puts the package and what it needs."""
        return self.path / "package"


def run_fetched(source: PackageSource, words: Sequence[str]) -> int:
    """Fetch *source*, run its command line with *words*, and return its exit code. Call it from the main thread.

    Raises `NotOurWheelError`, `PipMissingError`, `FetchFailedError`, OSError, KeyboardInterrupt; then nothing was
    changed. Raises InternalError if the installer was killed.
    """
    with Interruptions() as signals:
        if source.wheel is not None:
            _check_wheel(source.wheel)
        with _scratch() as scratch:
            _fetch(source, scratch, signals)
            return _run_installer(scratch, words, signals)


def _check_wheel(file: Path) -> None:
    """Refuse what pip would take for something else, or install in place of us."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    hint = "Nothing was changed. Give the path of a readable file mosaic_gateway-VERSION-py3-none-any.whl"
    try:
        stream = open_regular(os.path.realpath(file))
    except OSError as error:
        raise NotOurWheelError(f"{file} cannot be read: {error.strerror}", hint=hint) from error
    with stream:
        try:
            name, version, *_ = parse_wheel_filename(file.name)
        except InvalidWheelFilename as error:
            raise NotOurWheelError(f"{file} is not named as a wheel is", hint=hint) from error
        if name != DISTRIBUTION:
            raise NotOurWheelError(f"{file} is a wheel of {name}", hint=hint)
        try:
            identities = _identities(stream)
        except DAMAGES as error:
            raise NotOurWheelError(
                f"{file} is damaged, or not a wheel: {error}", hint="Nothing was changed. Fetch the file again."
            ) from error
    for place, found_name, found_version in identities:
        with suppress(InvalidVersion):
            if canonicalize_name(found_name) == name and Version(found_version) == version:
                continue
        raise NotOurWheelError(
            f"{file} is named as {name} {version}, but is {found_name} {found_version} by its {place}", hint=hint
        )


def _identities(stream: BinaryIO) -> list[tuple[str, str, str]]:
    """Return what a wheel says that it is: the place in it, the name and the version.

    Reads at most `METADATA_LIMIT` bytes of a file in it, whatever size is declared. Raises what `DAMAGES` has.
    """
    from packaging.metadata import parse_email

    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("a name occurs twice in it")
        parts = [name.removesuffix("/").split("/") for name in names]
        if any(part in {"", ".", ".."} for path in parts for part in path):
            raise ValueError("it has a name that leads elsewhere")
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


@contextmanager
def _scratch() -> Iterator[_Scratch]:
    """Give a temporary directory; first remove those that killed runs left."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(left)
        if lock is not None:
            _remove(left)
            os.close(lock)
    scratch = _locked_directory()
    try:
        yield scratch
    finally:
        _remove(scratch.path)
        os.close(scratch.lock)


def _locked_directory() -> _Scratch:
    for _ in range(10):  # between the two calls another run may take it for one that was left, and remove it
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(path)
        if lock is not None:
            return _Scratch(path, lock)
        with suppress(FileNotFoundError):
            path.rmdir()
    raise OSError(errno.ENOLCK, "directories cannot be locked; set TMPDIR to another place", tempfile.gettempdir())


def _lock(directory: Path) -> int | None:
    """Return a descriptor that holds the lock on *directory*; None where it is not ours, in use or gone."""
    try:
        descriptor = os.open(directory, DIRECTORY)
    except OSError:
        return None
    with suppress(OSError):
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(status, directory.lstat()):
                return descriptor
    os.close(descriptor)
    return None


def _remove(directory: Path) -> None:
    """Remove *directory*. Processes that are just being killed may still add to it, so try again."""
    deadline = time.monotonic() + REMOVE_LIMIT
    shutil.rmtree(directory, ignore_errors=True)
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
        shutil.rmtree(directory, ignore_errors=True)


def _fetch(source: PackageSource, scratch: _Scratch, signals: Interruptions) -> None:
    """Have pip put what *source* asks for into *scratch*."""
    options = [*(["--no-index"] if source.no_index else []), *(f"--find-links={place}" for place in source.places)]
    what = source.requirement
    words = [*_pip(scratch, signals), "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    code, output = _run_pip([*words, "--target", str(scratch.package), *options, what], PIP_LIMIT, scratch, signals)
    if code != 0:
        raise FetchFailedError(
            f"pip could not provide {what}: {output or ending_of(code)}",
            hint="Nothing was changed. Without a network: --find-links DIR --no-index",
        )


def _pip(scratch: _Scratch, signals: Interruptions) -> list[str]:
    for interpreter in dict.fromkeys((sys.executable, str(base_interpreter()))):
        words = [interpreter, "-m", "pip"]
        with suppress(OSError):
            if _run_pip([*words, "--version"], PROBE_LIMIT, scratch, signals)[0] == 0:
                return words
    raise PipMissingError(
        f"{sys.executable} has no pip",
        hint="Upgrade the package where it was installed, then run that environment's mosaic-gateway upgrade.",
    )


def _run_pip(words: Sequence[str], limit: float, scratch: _Scratch, signals: Interruptions) -> tuple[int, str]:
    """Return the exit code of a program and the end of its output.

    It is killed with its children when a signal arrives, which raises KeyboardInterrupt, and after *limit* seconds.
    When we are killed, it is too, but not its children, such as the build of an sdist: nothing is
    left that could signal the group. They end by themselves.
    """
    with tempfile.TemporaryFile(dir=scratch.path) as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", umask=0o077,
            env={**process_environment(), "TMPDIR": str(scratch.path)}, start_new_session=True,
            preexec_fn=partial(follow_parent, os.getpid(), signal.SIGKILL), pass_fds=[scratch.lock],  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip

        def end(_number: int) -> None:
            if process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):  # it has just ended (PermissionError: macOS)
                    os.killpg(process.pid, signal.SIGKILL)

        with signals.passed_to(end):
            if not _ended(process, limit):
                end(signal.SIGKILL)
                process.wait()
                return process.returncode, f"it did not end within {limit:g} s"
        signals.check()
        output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_LIMIT))
        return process.returncode, output.read().decode(errors="replace").strip()


def _run_installer(scratch: _Scratch, words: Sequence[str], signals: Interruptions) -> int:
    """Run the fetched package's command line, and return its exit code."""
    child = subprocess.Popen(
        [base_interpreter(), "-I", "-S", "-B", "-c", RUN, scratch.package, *words], start_new_session=True,
        preexec_fn=partial(follow_parent, os.getpid(), signal.SIGKILL), pass_fds=[scratch.lock],  # noqa: PLW1509 - this process has one thread
    )  # fmt: skip
    with signals.passed_to(child.send_signal):
        _ended(child, math.inf)
    code = child.wait()
    if code >= 0:
        return code
    if -code in INTERRUPTIONS:  # it had no handlers yet
        raise KeyboardInterrupt
    raise InternalError(
        f"the upgrade ended with {ending_of(code)}",
        hint="Run it again to go on, or mosaic-gateway upgrade --abort to go back.",
    )


def _ended(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Return whether *process* ends within *limit* seconds.

    Each wait is short: the handler of a signal that arrives just before a system call runs only after the call.
    """
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    return process.returncode is not None
