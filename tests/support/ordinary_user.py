"""Runs a command as an ordinary user: ``python tests/support/ordinary_user.py COMMAND [ARGUMENT …]``.

For an ordinary user the command is executed directly. For root it is executed as an unprivileged account, in a new
mount namespace. Directories that the account needs but cannot read (the interpreter, its libraries, the programs on
PATH, this tree) are covered by an overlay in memory, in which their modes are changed; HOME is a directory in such an
overlay. Small file systems for tests of full disks are mounted as well. The machine itself is not changed; all mounts
end with the last process of the namespace.

This process executes the command with execve(2), so that exit status and signals are the command's. The command gets
SIGTERM when the parent process exits.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Never

ACCOUNTS = ("daemon", "nobody")  # the first that exists: PostgreSQL refuses a user without an entry in passwd
HOMES = Path("/home")
#: Directories that tests write into the tree; earlier runs as root may have left them.
WRITTEN = (".hypothesis", ".pytest_cache")
TREE = Path(__file__).resolve().parents[2]
DISKS = "MOSAIC_GATEWAY_TEST_DISKS"  # as in tests/support/scratch.py
DISK_SIZES = (64, 320, 640)  # megabytes; also the names

# <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>
CLONE_NEWNS = 0x20000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(command: list[str]) -> Never:
    """Execute *command* as an ordinary user."""
    if not command:
        sys.exit("usage: ordinary_user.py COMMAND [ARGUMENT ...]")
    if os.geteuid() == 0:
        account = _unprivileged_account()
        directory = Path.cwd()
        try:
            home = _enter_namespace(account, command[0])
            disks = _mount_disks(account, home)
        except OSError as error:
            sys.exit(f"root runs the tests as {account.pw_name}, in a mount namespace, which failed: {error}")
        os.chdir(directory)  # enters the overlay on it
        _set_environment(account, home, disks)
        _switch_user(account)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the caller's
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    sys.exit(f"root needs one of these accounts to run the tests as: {', '.join(ACCOUNTS)}")


def _enter_namespace(account: pwd.struct_passwd, program: str) -> Path:
    """Set up the mount namespace: give *account* access to what the tests need, and return its home directory."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    memory = Path(tempfile.mkdtemp(prefix="ordinary-user-"))
    _mount("tmpfs", str(memory), kind="tmpfs", options="mode=0700")
    try:
        overlays = Overlays(memory)
        overlays.cover(HOMES)
        home = Path(tempfile.mkdtemp(prefix="mosaic-gateway-test-", dir=HOMES))
        for path in (*_needed(program), TREE, HOMES):
            overlays.open(path)
        if not overlays.covers(TREE):
            overlays.cover(TREE)
    finally:  # the overlays still reference it
        _check(_libc.umount2(os.fsencode(memory), MNT_DETACH), str(memory))
        memory.rmdir()
    for path in (home, TREE, *_left_by_root()):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return home


def _needed(program: str) -> list[Path]:
    """Return the directories and programs that the tests read, with and without symbolic links resolved."""
    names = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
    names += [sys.executable, shutil.which(program) or program, *os.get_exec_path()]
    paths = [Path(name).absolute() for name in names if name and Path(name).exists()]
    return [*paths, *(path.resolve() for path in paths)]


def _left_by_root() -> list[Path]:
    return [path for name in WRITTEN for path in (TREE / name, *(TREE / name).rglob("*")) if path.exists()]


def _mount_disks(account: pwd.struct_passwd, home: Path) -> Path:
    """Mount small file systems for *account* and return the directory that contains them."""
    disks = home / "disks"
    disks.mkdir()
    disks.chmod(0o755)
    for size in DISK_SIZES:
        (disks / str(size)).mkdir()
        options = f"size={size}m,mode=0700,uid={account.pw_uid},gid={account.pw_gid}"
        _mount("tmpfs", str(disks / str(size)), kind="tmpfs", options=options)
    return disks


class Overlays:
    """Overlay mounts, whose upper directories are below *memory*."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._covered: list[tuple[Path, int]] = []  # a directory and its overlay's device number

    def covers(self, path: Path) -> bool:
        """Return whether *path* is in an overlay."""
        device = path.stat().st_dev
        return any(path.is_relative_to(top) and device == number for top, number in self._covered)

    def cover(self, directory: Path) -> None:
        """Mount an overlay over *directory*; file systems mounted below it are mounted again on top."""
        layer = self._memory / str(len(self._covered))
        upper, work = layer / "upper", layer / "work"
        for path in (layer, upper, work):
            path.mkdir()
        inner = {point: os.open(point, os.O_PATH) for point in _mount_points(directory)}
        os.chdir(directory)  # lowerdir=. needs no escaping in the options
        _mount("overlay", str(directory), kind="overlay", options=f"lowerdir=.,upperdir={upper},workdir={work}")
        for point, descriptor in inner.items():
            _mount(f"/proc/self/fd/{descriptor}", point, flags=MS_BIND | MS_REC)
            os.close(descriptor)
        self._covered.append((directory, directory.stat().st_dev))

    def open(self, path: Path) -> None:
        """Give every user read and search permission on the parents of *path*, and on itself if it is a directory."""
        for directory in (*reversed(path.parents), path):
            mode = stat.S_IMODE(directory.stat().st_mode)
            if directory.is_dir() and mode & 0o005 != 0o005:
                if not self.covers(directory):
                    self.cover(directory)
                directory.chmod(mode | 0o055)


def _mount_points(directory: Path) -> list[str]:
    """Return the outermost mount points below *directory*."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = sorted({line.split(" ")[4].encode().decode("unicode_escape") for line in lines})  # a space is \040
    outermost: list[str] = []
    for point in points:
        if point.startswith(f"{directory}/") and not any(point.startswith(f"{outer}/") for outer in outermost):
            outermost.append(point)
    return outermost


def _mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)), target)


def _check(returned: int, name: str) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _set_environment(account: pwd.struct_passwd, home: Path, disks: Path) -> None:
    """Remove variables of root's session, set those of *account*, and let git read a repository that root owns."""
    environ = os.environ
    for name in list(environ):
        if name.startswith(("XDG_", "SUDO_")) or name in {"TMPDIR", "TEMP", "TMP"}:
            del environ[name]
    environ.update({"HOME": str(home), "USER": account.pw_name, "LOGNAME": account.pw_name, DISKS: str(disks)})
    # A tree that every user may enter is not covered; pytest could not write its cache there and would fail.
    environ["PYTEST_ADDOPTS"] = f"{environ.get('PYTEST_ADDOPTS', '')} -p no:cacheprovider".strip()
    count = int(environ.get("GIT_CONFIG_COUNT", "0"))
    environ[f"GIT_CONFIG_KEY_{count}"], environ[f"GIT_CONFIG_VALUE_{count}"] = "safe.directory", "*"
    environ["GIT_CONFIG_COUNT"] = str(count + 1)


def _switch_user(account: pwd.struct_passwd) -> None:
    """Drop root privileges irrevocably, and request SIGTERM when the parent process exits."""
    os.umask(0o022)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM), "prctl")  # must follow the change of user, which clears it


if __name__ == "__main__":
    main(sys.argv[1:])
