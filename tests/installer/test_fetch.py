"""Download of another version's package: invalid wheels, signals, and cleanup after kills."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mosaic_gateway_installer.upgrade.fetch import (
    PREFIX,
    PackageSource,
    run_fetched,
)
from mosaic_gateway_installer.upgrade.wheel_file import METADATA_LIMIT, InvalidWheelError, check_wheel

LIMIT = 60.0  # seconds
VERSION = "9.0"
INFO = f"mosaic_gateway-{VERSION}.dist-info"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")
#: Downloads the wheel in the first argument as the command line does. The others are pip's ``--find-links``.
DRIVER = """
import sys
from pathlib import Path
from mosaic_gateway.cli.envelope import run_verb
from mosaic_gateway_installer.upgrade.fetch import PackageSource, run_fetched
source = PackageSource(wheel=Path(sys.argv[1]), find_links=tuple(sys.argv[2:]), no_index=True)
sys.exit(run_verb("upgrade", lambda: sys.exit(run_fetched(source, ["upgrade"])), as_json=True))
"""
#: An installer, or a build of an sdist, that writes its process id to a file and then sleeps.
ENDLESS = """
import os, time
from pathlib import Path
def main(*_args, **_options):
    Path(os.environ["TEST_RUNS"]).write_text(str(os.getpid()))
    time.sleep(600)
"""
HANDLER = """
import signal, sys
signal.signal(signal.{name}, lambda *_: sys.exit(7))
"""


def _metadata(name: str = "mosaic-gateway", version: str = VERSION, *lines: str) -> str:
    return "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, "", "Words.", ""))


def _wheel(
    directory: Path,
    *,
    metadata: str = _metadata(),
    info: str = INFO,
    code: str = "",
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel whose command line runs *code*, which defines ``main``."""
    path = directory / f"mosaic_gateway-{VERSION}-py3-none-any.whl"
    files = {
        "mosaic_gateway_installer/__init__.py": "",
        "mosaic_gateway_installer/cli.py": code or "def main(): return 5",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path


def _add(wheel: Path, *names: str) -> Path:
    with zipfile.ZipFile(wheel, "a") as archive:
        for name in names:
            archive.writestr(name, _metadata("idna", "99.0"))
    return wheel


def _refusal(wheel: Path) -> str:
    with pytest.raises(InvalidWheelError) as caught:
        run_fetched(PackageSource(wheel=wheel, no_index=True), [])
    assert str(wheel) in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "version"), [("idna", VERSION), ("mosaic-gateway", "9.1"), ("mosaic-gateway", "latest"), ("", "")]
)
def test_metadata_differ_from_the_file_name(tmp_path: Path, name: str, version: str) -> None:
    """The error names the project and version of the file name and of METADATA."""
    message = _refusal(_wheel(tmp_path, metadata=_metadata(name, version)))
    assert f"is named mosaic-gateway {VERSION}, but its METADATA says {name} {version}" in message


@pytest.mark.parametrize("info", ["idna-9.0.dist-info", "mosaic_gateway-9.1.dist-info", "mosaic_gateway.dist-info"])
def test_dist_info_differs_from_the_file_name(tmp_path: Path, info: str) -> None:
    """The name of the directory *.dist-info is compared with the file name as well."""
    assert "but its directory *.dist-info says" in _refusal(_wheel(tmp_path, info=info))


def test_two_names_in_metadata(tmp_path: Path) -> None:
    """METADATA with two names counts as without a name."""
    assert "(no name)" in _refusal(_wheel(tmp_path, metadata=_metadata("mosaic-gateway", VERSION, "Name: idna")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("idna-99.0.dist-info/METADATA", "2 directories"),
        (f"{INFO.upper()}/METADATA", "a duplicate file name"),
        (f"{INFO}/METADATA", "a duplicate file name"),
        (f"{INFO}/../{INFO}/METADATA", "points outside of the archive"),
        (f"./{INFO}/METADATA", "points outside of the archive"),
        ("/etc/file", "points outside of the archive"),
        ("mosaic_gateway//file", "points outside of the archive"),
    ],
)
def test_ambiguous_file_names(tmp_path: Path, name: str, message: str) -> None:
    """File names that could replace METADATA when the wheel is unpacked are refused."""
    assert message in _refusal(_add(_wheel(tmp_path), name))


def test_no_metadata(tmp_path: Path) -> None:
    """A zip archive without METADATA is refused."""
    path = tmp_path / f"mosaic_gateway-{VERSION}-py3-none-any.whl"
    _add(path, "mosaic_gateway/__init__.py")
    assert "0 directories" in _refusal(path)
    _add(path, f"{INFO}/WHEEL")
    assert "METADATA" in _refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_oversized_metadata(tmp_path: Path, compression: int) -> None:
    """The size of decompressed METADATA is limited."""
    message = _refusal(_wheel(tmp_path, metadata=_metadata() + "x" * METADATA_LIMIT, compression=compression))
    assert "longer than" in message or "neither stored nor deflated" in message


def test_link_to_a_wheel(tmp_path: Path) -> None:
    """A symbolic link with a valid name is accepted."""
    (tmp_path / "store").mkdir()
    link = tmp_path / f"mosaic_gateway-{VERSION}-py3-none-any.whl"
    link.symlink_to(_wheel(tmp_path / "store"))
    check_wheel(link)


def test_damaged_archives(tmp_path: Path) -> None:
    """A wheel with changed bytes is refused, or has the same identity as before."""
    generator = random.Random(10)
    wheel = _wheel(tmp_path)
    whole = wheel.read_bytes()
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(generator.choice((1, 2, 8))):
            content[generator.randrange(len(content))] = generator.choice((0, 1, 0x80, 0xFF))
        wheel.write_bytes(content)
        with suppress(InvalidWheelError):
            check_wheel(wheel)
            continue
        refused += 1
    assert refused > 100


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "loop"])
def test_not_a_regular_file(tmp_path: Path, kind: str) -> None:
    """It is refused without blocking on a FIFO."""
    path = tmp_path / f"mosaic_gateway-{VERSION}-py3-none-any.whl"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert "cannot be read" in _refusal(path)


@pytest.fixture
def tmpdir_variable(tmp_path: Path) -> Path:
    """Return the directory that is TMPDIR for the started processes."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


@pytest.fixture
def begin(tmpdir_variable: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts `DRIVER`; remaining processes are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(wheel: Path, *links: Path) -> subprocess.Popen[str]:
        environ = {**os.environ, "TMPDIR": str(tmpdir_variable), "TEST_RUNS": str(tmp_path / "runs")}
        words: list[str | Path] = [sys.executable, "-P", "-c", DRIVER, wheel, *links]
        process = subprocess.Popen(
            words, env=environ, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
    for left in psutil.process_iter():
        with suppress(psutil.Error):
            if left.environ().get("TEST_RUNS") == str(tmp_path / "runs"):
                left.kill()
    for process in started:
        process.communicate()


def _endless_download(tmp_path: Path) -> tuple[Path, Path]:
    """Return a wheel for which pip builds an sdist that never completes, and the directory of the sdist."""
    links = tmp_path / "links"
    links.mkdir()
    hooks = ("get_requires_for_build_wheel", "prepare_metadata_for_build_wheel", "build_wheel")
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "endless"\nbackend-path = ["."]\n',
        "endless.py": ENDLESS + "".join(f"{hook} = main\n" for hook in hooks),
        "PKG-INFO": _metadata("endless", "1.0"),
    }
    with tarfile.open(links / "endless-1.0.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"endless-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return _wheel(tmp_path, metadata=_metadata("mosaic-gateway", VERSION, "Requires-Dist: endless")), links


def _children(driver: subprocess.Popen[str], runs: Path) -> list[psutil.Process]:
    """Wait until *driver*'s last child process has written its process id; return all its child processes."""
    deadline = time.monotonic() + LIMIT
    while not (runs.exists() and runs.read_text()):
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.02)
    runs.unlink()
    return psutil.Process(driver.pid).children(recursive=True)


def _assert_gone(processes: Sequence[psutil.Process]) -> None:
    deadline = time.monotonic() + 10
    while left := [process for process in processes if _runs(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_download(
    begin: Callable[..., subprocess.Popen[str]], tmp_path: Path, tmpdir_variable: Path, number: signal.Signals
) -> None:
    """Pip and its build are killed, no temporary file remains, and the exit code is 130."""
    driver = begin(*_endless_download(tmp_path))
    working = _children(driver, tmp_path / "runs")
    assert len(working) >= 2  # pip and the build
    driver.send_signal(number)
    out, _ = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 130
    assert json.loads(out)["error"]["message"] == "interrupted"
    _assert_gone(working)
    assert list(tmpdir_variable.iterdir()) == []


@pytest.mark.slow
@LINUX
def test_next_run_removes_the_files_of_a_killed_download(
    begin: Callable[..., subprocess.Popen[str]], tmp_path: Path, tmpdir_variable: Path
) -> None:
    """Pip exits with the killed process. Directories in use, foreign files and links are never removed."""
    endless, links = _endless_download(tmp_path)
    quick = tmp_path / "quick"
    (quick / "untouched").mkdir(parents=True)
    (tmpdir_variable / f"{PREFIX}link").symlink_to(quick)
    (tmpdir_variable / f"{PREFIX}file").touch()
    (tmpdir_variable / "mosaic-gateway-other").mkdir()
    others = set(tmpdir_variable.iterdir())

    killed = begin(endless, links)
    pip, *builds = _children(killed, tmp_path / "runs")
    killed.kill()
    killed.wait()
    _assert_gone([pip])
    for build in builds:  # only pip could have ended these
        with suppress(psutil.Error):
            build.kill()
    (left,) = set(tmpdir_variable.iterdir()) - others

    running = begin(endless, links)
    _children(running, tmp_path / "runs")
    (in_use,) = set(tmpdir_variable.iterdir()) - others
    assert in_use != left
    assert begin(_wheel(quick)).wait(LIMIT) == 5
    assert set(tmpdir_variable.iterdir()) == others | {in_use}
    running.terminate()
    assert running.wait(LIMIT) == 130
    assert set(tmpdir_variable.iterdir()) == others
    assert (quick / "untouched").is_dir()


@pytest.mark.slow
@LINUX
def test_killed_upgrade(begin: Callable[..., subprocess.Popen[str]], tmp_path: Path, tmpdir_variable: Path) -> None:
    """The downloaded installer is killed with the process that runs it; the next run removes its directory."""
    driver = begin(_wheel(tmp_path, code=ENDLESS))
    (installer,) = _children(driver, tmp_path / "runs")
    driver.kill()
    driver.wait()
    _assert_gone([installer])
    assert len(list(tmpdir_variable.iterdir())) == 1
    assert begin(_wheel(tmp_path)).wait(LIMIT) == 5
    assert list(tmpdir_variable.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("handled", [True, False])
def test_signals_are_passed_to_the_installer(
    begin: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    tmpdir_variable: Path,
    number: signal.Signals,
    *,
    handled: bool,
) -> None:
    """The installer's exit code is returned; if it had no handler for the signal yet, the verb was interrupted."""
    code = (
        HANDLER.format(name=number.name) if handled else "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)"
    )
    driver = begin(_wheel(tmp_path, code=f"{code}\n{ENDLESS}"))
    working = _children(driver, tmp_path / "runs")
    driver.send_signal(number)
    assert driver.wait(LIMIT) == (7 if handled else 130)
    _assert_gone(working)
    assert list(tmpdir_variable.iterdir()) == []


@pytest.mark.slow
def test_killed_installer(begin: Callable[..., subprocess.Popen[str]], tmp_path: Path, tmpdir_variable: Path) -> None:
    """The error message names the signal."""
    driver = begin(_wheel(tmp_path, code="import os\ndef main(): os.kill(os.getpid(), 9)"))
    out, _ = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 1
    assert "signal SIGKILL" in json.loads(out)["error"]["message"]
    assert list(tmpdir_variable.iterdir()) == []
