"""The shell script install.sh."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.site import Site

SCRIPT = Path(__file__).resolve().parents[2] / "installer" / "install.sh"
LIMIT = 300.0  # seconds
WHEEL, CLICK = "mosaic_gateway-1.0-py3-none-any.whl", "click-8.1.7-py3-none-any.whl"
EMPTY = hashlib.sha256(b"").hexdigest()
SHELLS = [
    pytest.param(words, id=words[0], marks=pytest.mark.skipif(shutil.which(words[0]) is None, reason="not installed"))
    for words in (("sh",), ("dash",), ("bash", "--posix"), ("busybox", "sh"), ("zsh", "--emulate", "sh"))
]


def _run(site: Site, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in {**site.environ, **environ}.items() if name != "PYTHONPATH"}
    return subprocess.run(
        ["sh", SCRIPT, *words], env=env, capture_output=True, text=True, timeout=LIMIT, check=False, cwd="/"
    )


@pytest.fixture
def false_pip(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which python and mosaic-gateway only print their arguments."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name, line in (("python", 'echo "pip $*"'), ("mosaic-gateway", 'echo "command $*"')):
        (venv / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (venv / "bin" / name).chmod(0o755)
    return {"MOSAIC_GATEWAY_VENV": str(venv), "PYTHON": sys.executable}


def test_the_script_is_valid_sh_and_executable() -> None:
    """A POSIX shell parses the script, and its mode includes execute permission."""
    subprocess.run(["sh", "-n", SCRIPT], check=True)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("upgrade", "--help")])
def test_help_is_printed_before_anything_is_installed(site: Site, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The script's own comment is the help; no environment is created."""
    done = _run(site, *words, MOSAIC_GATEWAY_VENV=str(tmp_path / "venv"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Creates a virtual environment")
    assert "MOSAIC_GATEWAY_VENV" in done.stdout
    assert "set -eu" not in done.stdout
    assert not (tmp_path / "venv").exists()


def test_arguments_are_passed_to_the_command_unchanged(site: Site, false_pip: dict[str, str]) -> None:
    """Spaces in arguments are preserved; the checkout is installed."""
    done = _run(site, "--port", "1 2", **false_pip)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(str(SCRIPT.parents[1]))
    assert lines[1] == "command install --port 1 2"


def test_upgrade_is_passed_on_as_the_verb(site: Site, false_pip: dict[str, str]) -> None:
    """A first argument ``install`` or ``upgrade`` selects the verb."""
    assert _run(site, "upgrade", "--json", **false_pip).stdout.splitlines()[1] == "command upgrade --json"
    assert _run(site, "install", "--json", **false_pip).stdout.splitlines()[1] == "command install --json"


def test_the_package_can_be_named(site: Site, false_pip: dict[str, str]) -> None:
    """MOSAIC_GATEWAY_PACKAGE overrides the checkout."""
    done = _run(site, MOSAIC_GATEWAY_PACKAGE="/some/where.whl", **false_pip)
    assert done.stdout.splitlines()[0].endswith("--upgrade /some/where.whl")


def test_outside_of_a_checkout_the_package_index_is_used(site: Site, false_pip: dict[str, str], tmp_path: Path) -> None:
    """A copy of the script alone installs the published package."""
    copy = tmp_path / "copy" / "install.sh"
    copy.parent.mkdir()
    shutil.copy(SCRIPT, copy)
    done = subprocess.run(
        ["sh", copy], env={**site.environ, **false_pip}, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.stdout.splitlines()[0].endswith("--upgrade mosaic-gateway")


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        ("exit 1", "no Python 3.11 or later"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
    ],
)
def test_an_unsuitable_interpreter_is_refused(site: Site, tmp_path: Path, python: str, reason: str) -> None:
    """An interpreter that is too old, or Debian's without venv: exit code 3 and the remedy."""
    false = tmp_path / "python3"
    false.write_text(f"#!/bin/sh\n{python}\n")
    false.chmod(0o755)
    done = _run(site, PYTHON=str(false), MOSAIC_GATEWAY_VENV=str(tmp_path / "venv"))
    assert done.returncode == 3
    assert reason in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return an unpacked archive for installation without a network."""
    path = tmp_path / "an archive"
    (path / "wheels").mkdir(parents=True)
    shutil.copy(SCRIPT, path)
    for name in (WHEEL, CLICK, "idna-3.10+local.1-py3-none-any.whl"):
        (path / "wheels" / name).write_text(name)
    files = [path / "install.sh", *sorted((path / "wheels").iterdir())]
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path)}\n" for file in files]
    (path / "SHA256SUMS").write_text("".join(lines))
    return path


def _unpacked(shell: tuple[str, ...], archive: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, "install.sh", "--json"], env={**os.environ, **environ}, cwd=archive,
        capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_an_unchanged_archive_is_installed(archive: Path, false_pip: dict[str, str], shell: tuple[str, ...]) -> None:
    """pip installs the archive's wheel and uses only its wheels; other files next to install.sh are ignored."""
    (archive / "out.json").touch()
    done = _unpacked(shell, archive, false_pip)
    assert done.returncode == 0, done.stderr
    pip, command = done.stdout.splitlines()
    assert pip.endswith(f"--no-index --find-links {archive}/wheels --upgrade {archive}/wheels/{WHEEL}")
    assert command == "command install --json"


#: (shell commands that damage the archive, the fault that is reported)
DAMAGES = [
    (f"echo altered >wheels/{CLICK}", f"wheels/{CLICK} differs from SHA256SUMS"),
    ("echo '# more' >>install.sh", "install.sh differs from SHA256SUMS"),
    (f"rm wheels/{CLICK}", f"wheels/{CLICK} is listed in SHA256SUMS but is not in"),
    ("rm -r wheels", f"wheels/{WHEEL} is listed in SHA256SUMS but is not in"),
    ("rm SHA256SUMS", f"wheels/{WHEEL} is not listed"),
    ("true >SHA256SUMS", f"wheels/{WHEEL} is not listed"),
    (": >wheels/idna-99.0-py3-none-any.whl", "wheels/idna-99.0-py3-none-any.whl is not listed"),
    (": >wheels/.hidden", "wheels/.hidden is not listed"),
    (": >wheels/..hidden", "wheels/..hidden is not listed"),
    (f"mv wheels/{CLICK} else; ln -s ../else wheels/{CLICK}", f"wheels/{CLICK} is a symbolic link"),
    ("ln -s nowhere wheels/dangling.whl", "wheels/dangling.whl is a symbolic link"),
    ("mv wheels else; ln -s else wheels", "wheels is a symbolic link"),
    ("mv SHA256SUMS else; ln -s else SHA256SUMS", "SHA256SUMS is a symbolic link"),
    ("mkfifo wheels/fifo.whl", "wheels/fifo.whl is not a regular file"),
    ("mkdir wheels/more", "wheels/more is not a regular file"),
    (": >'wheels/a\nb.whl'", "wheels/a?b.whl does not have the name of a wheel"),
    (": >'wheels/a\x1b[31mb.whl'", "wheels/a??31mb.whl does not have the name of a wheel"),
    (": >'wheels/a  b.whl'", "wheels/a  b.whl does not have the name of a wheel"),
    (f": >../outside; echo '{EMPTY}  ../outside' >>SHA256SUMS", "../outside is listed in SHA256SUMS but is not in"),
    (f"echo '{EMPTY}  /dev/null' >>SHA256SUMS", "/dev/null is listed in SHA256SUMS but is not in"),
    (f"echo '{EMPTY}  wheels/../out' >>SHA256SUMS; : >out", "wheels/../out is listed in SHA256SUMS but is not in"),
    ("echo 'no sum' >>SHA256SUMS", "no sum is listed in SHA256SUMS but is not in"),
    # `sha256sum -c` ignores lines that it cannot parse.
    (": >wheels/a.whl; echo '0  wheels/a.whl' >>SHA256SUMS", "wheels/a.whl differs from SHA256SUMS"),
    (f": >wheels/b.whl; echo 'SHA256 (wheels/b.whl) = {EMPTY}' >>SHA256SUMS", "wheels/b.whl is not listed"),
    (f"printf '{EMPTY}  wheels/{WHEEL}' >>SHA256SUMS", f"wheels/{WHEEL} differs from SHA256SUMS"),
]


@pytest.mark.parametrize(("damage", "fault"), DAMAGES)
def test_a_damaged_archive_is_refused(archive: Path, false_pip: dict[str, str], damage: str, fault: str) -> None:
    """The archive is refused before anything runs, and the file is named."""
    subprocess.run(["sh", "-c", damage], cwd=archive, check=True)
    done = _unpacked(("sh",), archive, false_pip)
    assert (done.returncode, done.stdout) == (3, "")
    assert fault in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_reports_the_same(archive: Path, false_pip: dict[str, str], shell: tuple[str, ...]) -> None:
    """All faults are reported at once."""
    several = [(damage, fault) for damage, fault in DAMAGES if not damage.startswith(("rm", "mv", "true"))]
    subprocess.run(["sh", "-c", "\n".join(damage for damage, _ in several)], cwd=archive, check=True)
    done = _unpacked(shell, archive, false_pip)
    assert (done.returncode, done.stdout) == (3, "")
    assert [fault for _, fault in several if fault not in done.stderr] == []


def test_modules_in_the_current_directory_are_not_imported(false_pip: dict[str, str], tmp_path: Path) -> None:
    """Python modules in the current directory are not executed."""
    for name in ("ensurepip", "venv", "pip"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w').close()\n")
    words: list[str | Path] = ["sh", SCRIPT]
    done = subprocess.run(
        words, env={**os.environ, **false_pip}, cwd=tmp_path, capture_output=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"pip -P -m pip ")
    assert not (tmp_path / "was_run").exists()


@pytest.fixture
def small_package(tmp_path: Path) -> Path:
    """Return a wheel without dependencies whose command mosaic-gateway prints its arguments."""
    wheel, info = tmp_path / WHEEL, "mosaic_gateway-1.0.dist-info"
    module = "import sys\ndef main():\n    print('command', *sys.argv[1:])\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small_command.py", module)
        for number in range(200):  # so that the installation takes a while
            archive.writestr(f"small_part_{number}.py", module)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mosaic-gateway\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nmosaic-gateway = small_command:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def _exists(name: str) -> Callable[[Path, float], bool]:
    return lambda venv, _seconds: any(venv.glob(name))


def _after(limit: float) -> Callable[[Path, float], bool]:
    return lambda _venv, seconds: seconds > limit


#: Moments at which the script is killed: a function of the environment's directory and the seconds since the start.
MOMENTS = {
    "marked": lambda venv, _seconds: venv.with_name(f"{venv.name}.begun").exists(),
    "python linked": _exists("bin/python"),
    "pip being installed": _exists("lib/python*/site-packages/pip"),
    "created": _exists(".created-by-install.sh"),
    "package begun": _exists("lib/python*/site-packages/small_command.py"),
    "package half installed": _exists("lib/python*/site-packages/small_part_100.py"),
    "metadata written": _exists("lib/python*/site-packages/mosaic_gateway-1.0.dist-info/METADATA"),
    "command written": _exists("bin/mosaic-gateway"),
    **{f"{seconds} s": _after(seconds) for seconds in (0.3, 1.0, 2.0, 3.0, 4.0, 6.0)},
}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT])
@pytest.mark.parametrize(
    "moment", [name if name == "python linked" else pytest.param(name, marks=pytest.mark.slow) for name in MOMENTS]
)
def test_an_interrupted_script_goes_on_when_run_again(
    site: Site, tmp_path: Path, small_package: Path, moment: str, number: signal.Signals
) -> None:
    """Killed or interrupted at any moment, the next run creates what is missing and runs the command."""
    venv = tmp_path / "a venv"
    environ = {"MOSAIC_GATEWAY_VENV": str(venv), "PYTHON": sys.executable, "MOSAIC_GATEWAY_PACKAGE": str(small_package)}
    env = {name: value for name, value in {**site.environ, **environ}.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        ["sh", SCRIPT, "--first"], env=env, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    started = time.monotonic()
    while process.poll() is None and not MOMENTS[moment](venv, time.monotonic() - started):
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, number)
    process.wait(LIMIT)
    done = _run(site, "--second", **environ)
    assert (done.returncode, done.stdout) == (0, "command install --second\n"), done.stderr
    assert not venv.with_name(f"{venv.name}.begun").exists()


def test_an_environment_without_pip_gets_it(site: Site, tmp_path: Path, small_package: Path) -> None:
    """Such an environment, which the script did not create, is not cleared."""
    venv = tmp_path / "theirs"
    subprocess.run([sys.executable, "-P", "-m", "venv", "--without-pip", venv], check=True)
    (venv / "theirs.txt").write_text("mine")
    environ = {"MOSAIC_GATEWAY_VENV": str(venv), "PYTHON": sys.executable, "MOSAIC_GATEWAY_PACKAGE": str(small_package)}
    done = _run(site, **environ)
    assert (done.returncode, done.stdout) == (0, "command install\n"), done.stderr
    assert (venv / "theirs.txt").read_text() == "mine"


def test_a_failure_of_pip_does_not_clear_a_complete_environment(
    site: Site, tmp_path: Path, small_package: Path
) -> None:
    """After a failed upgrade the command still works, and the next run needs no new environment."""
    venv = tmp_path / "a venv"
    environ = {"MOSAIC_GATEWAY_VENV": str(venv), "PYTHON": sys.executable}
    assert _run(site, MOSAIC_GATEWAY_PACKAGE=str(small_package), **environ).returncode == 0
    (venv / "same.txt").touch()
    failed = _run(site, MOSAIC_GATEWAY_PACKAGE=str(tmp_path / "missing-1.0-py3-none-any.whl"), **environ)
    assert (failed.returncode, "could not install" in failed.stderr) == (3, True)
    subprocess.run([venv / "bin" / "mosaic-gateway"], check=True, capture_output=True)
    assert _run(site, MOSAIC_GATEWAY_PACKAGE=str(small_package), **environ).returncode == 0
    assert (venv / "same.txt").exists()


@pytest.mark.slow
def test_from_a_checkout_to_a_running_gateway(site: Site, tmp_path: Path) -> None:
    """A real virtual environment, the package with its dependencies, install, smoke test, purge."""
    venv = tmp_path / "a venv"
    words = [word for word in site.install_words() if word != "install"]
    done = _run(site, *words, "--home", str(site.path), MOSAIC_GATEWAY_VENV=str(venv), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["result"]["smoke_test"]["needsSetup"] is True
    command: list[str | Path] = [
        venv / "bin" / "mosaic-gateway",
        "uninstall",
        f"--purge={site.receipt()['instance_id']}",
    ]
    env = {name: value for name, value in site.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*command, "--home", str(site.path)], check=True, capture_output=True, env=env, cwd=os.sep)
    site.assert_nothing_runs()
