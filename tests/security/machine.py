"""Test machines: namespaces with overlays over the directories that an installation changes.

Theory of operation. `Ground` is one mount namespace with a tmpfs. Each `Machine` is created in it: a mount and a PID
namespace that its first process keeps open. In a machine, /etc, /var/lib, /var/cache, /usr/local/lib and /usr/local/bin
are overlays, and homes are below `HOMES` on the tmpfs. When the first process exits, the kernel kills all others and
unmounts the layers; nothing of a test stays on the real machine. A machine can be copied: an installation is created
once and attacked in copies.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = [
    "FREE_THE_NAME",
    "HOME",
    "HOMES",
    "LIMIT",
    "Ended",
    "Ground",
    "Machine",
    "NamespacesMissingError",
    "become_words",
]

LIMIT = 30.0  # seconds that a verb may take
SETUP_LIMIT = 120.0  # seconds for a command that prepares a test
MEMORY = 3 << 30  # bytes of address space for a verb, so that reading an endless file fails soon
#: The directory of homes in a machine; owned by root, mode 0755, like /var/lib.
HOMES = "/var/lib/gateways"
HOME = f"{HOMES}/home"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
MOUNT_GROUND = """
set -e
mount -t tmpfs -o mode=755 ground "$1"
echo ready
exec cat
"""
#: $1: the machine's layer, $2: the directory of homes. The first process ignores SIGCHLD, so that orphans leave no
#: zombies.
ENTER = """
set -e
layer=$1
for place in /etc /var/lib /var/cache /usr/local/lib /usr/local/bin; do
  [ -d "$place" ] || continue
  name=$(printf %s "$place" | tr / -)
  mkdir -p "$layer/upper/$name" "$layer/work/$name"
  mount -t overlay layer -o "lowerdir=$place,upperdir=$layer/upper/$name,workdir=$layer/work/$name" "$place"
done
mkdir -p "$2" "$layer/homes"
mount --bind "$layer/homes" "$2"
if [ -e "$layer/programs/systemctl" ]; then
  for place in $(command -v systemctl) /usr/local/bin/systemctl; do
    [ -e "$place" ] || : > "$place"
    mount --bind "$layer/programs/systemctl" "$place"
  done
fi
echo ready
exec env --ignore-signal=CHLD cat
"""
#: An account of this name that the machine has keeps its user id under another name.
FREE_THE_NAME = """
for file in /etc/passwd /etc/group /etc/shadow /etc/gshadow; do
  if [ -e "$file" ]; then sed -i 's/^mosaic-gateway:/other-gateway:/' "$file"; fi
done
"""


class NamespacesMissingError(Exception):
    """Root is not allowed to mount, as in an unprivileged container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The result of a command; ``code`` is None if it did not exit in time and was killed."""

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def output(self) -> str:
        """Standard output and standard error."""
        return f"{self.out}\n{self.err}"


@dataclass
class Ground:
    """A tmpfs on ``directory``, in a mount namespace that process ``pid`` keeps open."""

    pid: int
    directory: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextmanager
    def prepared(cls) -> Iterator[Ground]:
        """Create it for the length of the block. Raises `NamespacesMissingError`."""
        with tempfile.TemporaryDirectory(prefix="mosaic-security-") as directory:
            Path(directory).chmod(0o755)
            words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT_GROUND, "sh", directory]
            with _held(words) as holder:
                yield cls(holder.pid, directory)

    def seen_from_here(self, path: str) -> Path:
        """Return the path, from this process, of *path* in the ground's namespace."""
        return Path(f"/proc/{self.pid}/root{path}")

    def enter(self) -> list[str]:
        """Return the words before a command that run it in this namespace, outside of every machine."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--"]

    def run(self, *words: str) -> None:
        """Run a command in this namespace, which must succeed."""
        subprocess.run([*self.enter(), *words], check=True, timeout=SETUP_LIMIT, cwd="/", env=ENVIRONMENT)

    def new_layer(self, source: str | None = None, *, systemctl: str | None = None) -> str:
        """Return a new layer: a copy of *source*, or an empty one. *systemctl* replaces the real program."""
        layer = f"{self.directory}/machine-{next(self._numbers)}"
        directory = self.seen_from_here(layer)
        directory.mkdir(mode=0o755)
        if source is not None:
            for part in ("upper", "homes"):
                self.run("cp", "-a", f"{source}/{part}", layer)
        if systemctl is not None:
            program = directory / "programs" / "systemctl"
            program.parent.mkdir()
            program.write_text(systemctl)
            program.chmod(0o755)
        return layer

    @contextmanager
    def machine(self, layer: str) -> Iterator[Machine]:
        """Run a machine on *layer* for the length of the block, then kill all its processes. The layer remains."""
        words = [*self.enter(), "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-c", ENTER, "sh", layer, HOMES]  # fmt: skip
        with _held(words) as holder:
            (first,) = psutil.Process(holder.pid).children()
            yield Machine(self, layer, first.pid)

    def discard(self, layer: str) -> None:
        """Remove a layer on which no machine is running."""
        shutil.rmtree(self.seen_from_here(layer), ignore_errors=True)


def become_words(uid: int, gid: int) -> list[str]:
    """Return the words before a command that run it as the given user and group.

    The program that setpriv executes loses its capabilities only at its own execve, so a shell is put between.
    """
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]


@dataclass(frozen=True)
class Machine:
    """Namespaces whose first process is ``pid``, as seen from this process; changes are written to ``layer``."""

    ground: Ground
    layer: str
    pid: int

    def file(self, path: str) -> Path:
        """Return the path, from this process, of *path*, which must be below `HOMES`. Links must not be followed."""
        assert path.startswith(HOMES), path
        return self.ground.seen_from_here(f"{self.layer}/homes{path.removeprefix(HOMES)}")

    def popen(
        self,
        words: Sequence[str],
        *,
        owner: tuple[int, int] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in the machine as root, or as the user and group *owner*."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--"]
        become = [] if owner is None else become_words(*owner)
        return subprocess.Popen(
            [*enter, *become, *words], env={**ENVIRONMENT, **(environ or {})}, cwd="/", start_new_session=True,
            text=True, errors="replace", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self,
        *words: str,
        owner: tuple[int, int] | None = None,
        stdin: str = "",
        limit: float = LIMIT,
        environ: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a command in the machine until it exits, or kill it after *limit* seconds."""
        process = self.popen(words, owner=owner, environ=environ)
        try:
            out, err = process.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired:
            self._kill_children(process)
            out, err = process.communicate()
            return Ended(words=words, code=None, out=out, err=err)
        return Ended(words=words, code=process.returncode, out=out, err=err)

    def _kill_children(self, process: subprocess.Popen[str]) -> None:
        """Kill *process* and its descendants, which may have its output open."""
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        process.kill()

    def check(self, *words: str, owner: tuple[int, int] | None = None, stdin: str = "") -> str:
        """Run a command, which must succeed, and return its output."""
        ended = self.run(*words, owner=owner, stdin=stdin, limit=SETUP_LIMIT)
        assert ended.code == 0, ended
        return ended.out

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the machine except the first."""
        space = os.readlink(f"/proc/{self.pid}/ns/pid")  # noqa: PTH115 - the target is a name, not a path
        processes = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if os.readlink(f"/proc/{process.pid}/ns/pid") == space and process.pid != self.pid:  # noqa: PTH115 - as above
                    processes.append(process)
        return processes


@contextmanager
def _held(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run *words*, which write one line and then wait for the end of the block."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        env=ENVIRONMENT, start_new_session=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            if holder.stdout.readline() != "ready\n":
                raise NamespacesMissingError(holder.stderr.read())
            yield holder
        finally:
            holder.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                holder.wait(10)
            if holder.poll() is None:
                os.killpg(holder.pid, signal.SIGKILL)
