"""Download another version's package with pip into a temporary directory, and run its installer from there.

Theory of operation. This process runs two child processes, one after the other: pip, then the downloaded installer.
Each runs in a session of its own (setsid(2)), so that a signal from the terminal reaches it only once, through this
process. SIGINT, SIGTERM and SIGHUP kill pip with its children, and the verb ends as interrupted; the installer gets
the signal itself, and its exit code is the result. If this process is killed, the kernel kills the child
(PR_SET_PDEATHSIG, Linux only). The package and pip's temporary files are in one temporary directory. It is locked
while it is in use, so that the next run can remove the directory of a killed run.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mosaic_gateway.errors import InternalError, PreflightError, UsageError
from mosaic_gateway.hint import command
from mosaic_gateway.process import INTERRUPTIONS, Interruptions, ending_of, follow_parent, process_environment
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION
from mosaic_gateway_installer.program_copy.store import base_interpreter
from mosaic_gateway_installer.upgrade.wheel_file import check_wheel

__all__ = ["PackageSource", "run_fetched"]

PIP_LIMIT = 1800.0  # seconds
PROBE_LIMIT = 30.0
REMOVE_LIMIT = 5.0
OUTPUT_LIMIT = 4000  # bytes of pip's output that an error message includes
#: Prefix of the temporary directories' names.
PREFIX = "mosaic-gateway-fetch-"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Runs the other version: everything that it imports comes from the directory in the first argument.
RUN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'mosaic-gateway'; "
    "from mosaic_gateway_installer.cli import main; sys.exit(main())"
)


class PipMissingError(PreflightError):
    """Neither this virtual environment nor the base interpreter has pip."""

    code = "PIP_MISSING"


class FetchFailedError(PreflightError):
    """pip could not install the version; the message includes the end of pip's output."""

    code = "FETCH_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """The package to download: a wheel file or a version, with pip's ``--find-links`` and ``--no-index``.

    ``extras`` are the extras to install with it.
    """

    wheel: Path | None = None
    version: str | None = None
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError for options that cannot be combined."""
        if self.wheel is not None and self.version is not None:
            raise UsageError("--wheel and --version exclude each other", hint="Give one of the two.")
        if not self.given and (self.find_links or self.no_index):
            raise UsageError(
                "--find-links and --no-index require --wheel or --version", hint="Leave them out, or add one of these."
            )

    @property
    def given(self) -> bool:
        """Whether a package other than the running one was named."""
        return self.wheel is not None or self.version is not None

    @property
    def requirement(self) -> str:
        """The requirement specifier for pip."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        if self.wheel is not None:
            return f"{self.wheel.absolute()}{extras}"
        return f"{DISTRIBUTION}{extras}=={self.version}"

    @property
    def absolute_links(self) -> tuple[str, ...]:
        """``find_links`` with absolute directories, because pip runs in another working directory."""
        return tuple(str(Path(link).absolute()) if Path(link).is_dir() else link for link in self.find_links)


@dataclass(frozen=True, slots=True)
class _Scratch:
    """A temporary directory, and the descriptor that holds the lock on it."""

    path: Path
    lock: int

    @property
    def package(self) -> Path:
        """The directory into which pip installs the package and its dependencies."""
        return self.path / "package"


def run_fetched(source: PackageSource, words: Sequence[str]) -> int:
    """Download *source*, run its command line with *words*, and return its exit code. Call it from the main thread.

    Raises `InvalidWheelError`, `PipMissingError`, `FetchFailedError`, OSError, KeyboardInterrupt, all before any
    change to the installation. Raises InternalError if the installer was killed.
    """
    with Interruptions() as signals:
        if source.wheel is not None:
            check_wheel(source.wheel)
        with _scratch() as scratch:
            _fetch(source, scratch, signals)
            return _run_installer(scratch, words, signals)


@contextmanager
def _scratch() -> Iterator[_Scratch]:
    """Yield a locked temporary directory; first remove the directories of killed runs."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(leftover)
        if lock is not None:
            _remove(leftover)
            os.close(lock)
    scratch = _locked_directory()
    try:
        yield scratch
    finally:
        _remove(scratch.path)
        os.close(scratch.lock)


def _locked_directory() -> _Scratch:
    for _ in range(10):  # between mkdtemp and flock another run may remove it as a leftover
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(path)
        if lock is not None:
            return _Scratch(path, lock)
        with suppress(FileNotFoundError):
            path.rmdir()
    raise OSError(errno.ENOLCK, "directories cannot be locked; set TMPDIR to another directory", tempfile.gettempdir())


def _lock(directory: Path) -> int | None:
    """Return a descriptor that holds the lock on *directory*; None if it is gone, in use, or owned by another user."""
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
    """Remove *directory*, with retries: processes that are being killed may still create files in it."""
    deadline = time.monotonic() + REMOVE_LIMIT
    shutil.rmtree(directory, ignore_errors=True)
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
        shutil.rmtree(directory, ignore_errors=True)


def _fetch(source: PackageSource, scratch: _Scratch, signals: Interruptions) -> None:
    """Install *source* into *scratch* with pip."""
    options = [
        *(["--no-index"] if source.no_index else []),
        *(f"--find-links={link}" for link in source.absolute_links),
    ]
    requirement = source.requirement
    words = [*_pip(scratch, signals), "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    words += ["--target", str(scratch.package), *options, requirement]
    code, output = _run_pip(words, PIP_LIMIT, scratch, signals)
    if code != 0:
        raise FetchFailedError(
            f"pip could not install {requirement}: {output or ending_of(code)}",
            hint="Nothing was changed. Without a network, use --find-links DIR --no-index.",
        )


def _pip(scratch: _Scratch, signals: Interruptions) -> list[str]:
    for interpreter in dict.fromkeys((sys.executable, str(base_interpreter()))):
        words = [interpreter, "-m", "pip"]
        with suppress(OSError):
            if _run_pip([*words, "--version"], PROBE_LIMIT, scratch, signals)[0] == 0:
                return words
    raise PipMissingError(
        f"{sys.executable} has no pip",
        hint="Upgrade the package in its environment, then run that environment's " + command("upgrade") + ".",
    )


def _run_pip(words: Sequence[str], limit: float, scratch: _Scratch, signals: Interruptions) -> tuple[int, str]:
    """Run pip, and return its exit code and the end of its output.

    pip's process group is killed when a signal arrives, which raises KeyboardInterrupt, and after *limit* seconds.
    If this process is killed, the kernel kills pip, but not pip's children, such as the build of an sdist: no process
    is left to signal the group. They end by themselves.
    """
    with tempfile.TemporaryFile(dir=scratch.path) as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", umask=0o077,
            env={**process_environment(), "TMPDIR": str(scratch.path)}, start_new_session=True,
            preexec_fn=partial(follow_parent, os.getpid(), signal.SIGKILL), pass_fds=[scratch.lock],  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip

        def kill(_number: int) -> None:
            if process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):  # it has just exited (PermissionError: macOS)
                    os.killpg(process.pid, signal.SIGKILL)

        with signals.passed_to(kill):
            if not _exits_within(process, limit):
                kill(signal.SIGKILL)
                process.wait()
                return process.returncode, f"it did not end within {limit:g} s"
        signals.check()
        output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_LIMIT))
        return process.returncode, output.read().decode(errors="replace").strip()


def _run_installer(scratch: _Scratch, words: Sequence[str], signals: Interruptions) -> int:
    """Run the downloaded package's command line, and return its exit code."""
    child = subprocess.Popen(
        [base_interpreter(), "-I", "-S", "-B", "-c", RUN, scratch.package, *words], start_new_session=True,
        preexec_fn=partial(follow_parent, os.getpid(), signal.SIGKILL), pass_fds=[scratch.lock],  # noqa: PLW1509 - this process has one thread
    )  # fmt: skip
    with signals.passed_to(child.send_signal):
        _exits_within(child, math.inf)
    code = child.wait()
    if code >= 0:
        return code
    if -code in INTERRUPTIONS:  # it had not installed its signal handlers yet
        raise KeyboardInterrupt
    raise InternalError(
        f"the upgrade ended with {ending_of(code)}",
        hint="Run the command again to complete it, or " + command("upgrade", "--abort") + " to roll it back.",
    )


def _exits_within(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Wait for *process*, and return whether it exits within *limit* seconds.

    Each wait is short: the handler of a signal that arrives just before a system call runs only after the call.
    """
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    return process.returncode is not None
