"""Another version's package, fetched by pip into a directory of its own, and its installer run from there."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mosaic_gateway.errors import PreflightError, UsageError
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway_installer.snapshot.closure import DISTRIBUTION
from mosaic_gateway_installer.snapshot.store import base_interpreter

__all__ = ["Wish", "run_fetched"]

PIP_LIMIT = 1800.0  # seconds
PROBE_LIMIT = 30.0
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
class Wish:
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


def run_fetched(wish: Wish, words: Sequence[str]) -> int:
    """Fetch *wish*, run its command line with *words*, and return its exit code.

    Raises `NotOurWheelError`, `PipMissingError`, `FetchFailedError`, OSError; then nothing was changed.
    """
    if wish.wheel is not None:
        _check_wheel(wish.wheel)
    with _fetched(wish) as directory:
        child = subprocess.Popen([base_interpreter(), "-I", "-S", "-B", "-c", RUN, directory, *words])
        with _passed_on(child):
            return child.wait()


def _check_wheel(file: Path) -> None:
    """Refuse what pip would take for something else, or install in place of us."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    hint = "Nothing was changed. Give the path of a file mosaic_gateway-VERSION-py3-none-any.whl"
    if not file.is_file():
        raise NotOurWheelError(f"there is no file {file}", hint=hint)
    try:
        name = parse_wheel_filename(file.name)[0]
    except InvalidWheelFilename as error:
        raise NotOurWheelError(f"{file} is not named as a wheel is", hint=hint) from error
    if name != DISTRIBUTION:
        raise NotOurWheelError(f"{file} is a wheel of {name}", hint=hint)
    if not zipfile.is_zipfile(file):
        raise NotOurWheelError(f"{file} is damaged, or not a wheel", hint="Nothing was changed. Fetch the file again.")


@contextmanager
def _fetched(wish: Wish) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="mosaic-gateway-"))
    options = [*(["--no-index"] if wish.no_index else []), *(f"--find-links={place}" for place in wish.places)]
    what = wish.requirement
    try:
        try:
            run(
                [*_pip(), "install", "--quiet", "--no-input", "--disable-pip-version-check", "--target", directory,
                 *options, what],
                timeout=PIP_LIMIT,
            )  # fmt: skip
        except CommandFailedError as error:
            raise FetchFailedError(
                f"pip could not provide {what}: {error.details.get('output') or error.message}",
                hint="Nothing was changed. Without a network: --find-links DIR --no-index",
            ) from error
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _pip() -> list[str]:
    for interpreter in dict.fromkeys((sys.executable, str(base_interpreter()))):
        words = [interpreter, "-m", "pip"]
        try:
            run([*words, "--version"], timeout=PROBE_LIMIT)
        except CommandFailedError:
            continue
        return words
    raise PipMissingError(
        f"{sys.executable} has no pip",
        hint="Upgrade the package where it was installed, then run that environment's mosaic-gateway upgrade.",
    )


@contextmanager
def _passed_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave it to *child* what an interruption means. Ctrl-C reaches it from the terminal, the others through us."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT and child.poll() is None:
            child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
