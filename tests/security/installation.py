"""Root's installation on a test machine, with verbs run by root and scripts run by the account.

Root runs verbs (`Installation.verb`); the account acts through processes of its own (`Installation.account`).
`Watch` checks at the end that the attack did not succeed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.security.canary import TOKEN, TreeState, create_watched, leaks, stamp, tree_state
from tests.security.machine import FREE_THE_NAME, HOME, HOMES, LIMIT, MEMORY, Ended, Ground, Machine
from tests.support.ports import free_port

__all__ = ["DROP", "EXIT_CODES", "THEIRS", "Base", "Installation", "Watch", "make_base", "recorder"]

#: A directory of the account next to the home, and one that every user can write to.
THEIRS = f"{HOMES}/theirs"
DROP = f"{HOMES}/drop"
EXIT_CODES = {*range(8), 130}
#: The output of a program that is run with --version, as PostgreSQL's and Node.js print it.
VERSIONS = {"node": "v22.0.0", "npm": "10.0.0"}
#: A systemctl with what the installer uses: it accepts every command and reports a running system.
SYSTEMCTL = """#!/bin/sh
for word in "$@"; do
  case $word in
    is-system-running) echo running; exit 0 ;;
    is-enabled) echo enabled; exit 0 ;;
  esac
done
exit 0
"""


def recorder(name: str) -> str:
    """Return a program called *name* that writes its user, arguments and environment into a file of its own."""
    version = VERSIONS.get(name, f"{name} (PostgreSQL) 18.6")
    return (
        "#!/bin/sh\n"
        f'exec 3> "{DROP}/executed-$(id -u)-{name}-$$" || exit 1\n'
        f'echo "uid=$(id -u) name={name} words=$*" >&3\n'
        "env >&3\n"
        f'case " $* " in *" --version "*|*" -V "*) echo {shlex.quote(version)} ;; esac\n'
    )


@dataclass(frozen=True, kw_only=True)
class Installation:
    """An installation in ``home`` for the user and group ``owner``; root uses the interpreter ``python``."""

    machine: Machine
    python: str
    port: int
    owner: tuple[int, int]
    home: str = HOME

    @property
    def verb_words(self) -> tuple[str, ...]:
        """The words that every verb begins with."""
        return ("prlimit", f"--as={MEMORY}", "--", self.python, "-P", "-m", "mosaic_gateway_installer.cli")

    def verb(
        self,
        *words: str,
        prefix: tuple[str, ...] = (),
        limit: float = LIMIT,
        environ: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a verb as root on this home, with *prefix* before the command and *environ* in its environment."""
        command = (*prefix, *self.verb_words, *words, "--home", self.home)
        ended = self.machine.run(*command, limit=limit, environ=environ)
        return Ended(words=words, code=ended.code, out=ended.out, err=ended.err)

    def account(self, script: str, *arguments: str, stdin: str = "") -> str:
        """Run a shell script as the account, with the home as its working directory."""
        words = ("sh", "-ec", f"cd {shlex.quote(self.home)}\n{script}", "sh", *arguments)
        return self.machine.check(*words, owner=self.owner, stdin=stdin)

    def write(self, path: str, content: str) -> None:
        """Write a file as the account, below the home or at an absolute path, replacing what exists there."""
        self.account('mkdir -p "$(dirname "$1")"; rm -rf "$1"; cat > "$1"; chmod 600 "$1"', path, stdin=content)

    def write_program(self, path: str, content: str) -> None:
        """Write a program as the account."""
        self.write(path, content)
        self.account('chmod 755 "$1" "$(dirname "$1")"', path)

    def change_receipt(self, **values: object) -> None:
        """Change values of the receipt as the account."""
        self.write("receipt.json", json.dumps({**self.receipt(), **values}))

    def file(self, path: str) -> Path:
        """Return the path, from this process, of a file in the home. Links in it must not be followed."""
        return self.machine.file(f"{self.home}/{path}")

    def receipt(self) -> dict[str, Any]:
        """The receipt's contents."""
        value: dict[str, Any] = json.loads(self.file("receipt.json").read_text())
        return value

    @cached_property
    def identity(self) -> str:
        """The instance id at the first use."""
        return str(self.receipt()["instance_id"])

    @property
    def backup(self) -> str:
        """The name of a backup in the home."""
        return min(path.name for path in self.file("backups").iterdir() if not path.name.startswith("."))

    def started(self) -> None:
        """Start the gateway."""
        ended = self.verb("start")
        assert ended.code == 0, ended


@dataclass(frozen=True, kw_only=True)
class Base:
    """An installation in ``layer`` that is created once, with a backup in it and the gateway stopped."""

    ground: Ground
    layer: str
    python: str
    port: int
    owner: tuple[int, int]

    @contextmanager
    def copied(self, *, systemctl: bool = False) -> Iterator[Installation]:
        """Yield a copy of it on a machine of its own."""
        layer = self.ground.new_layer(self.layer, systemctl=SYSTEMCTL if systemctl else None)
        try:
            with self.ground.machine(layer) as machine:
                yield Installation(machine=machine, python=self.python, port=self.port, owner=self.owner)
        finally:
            self.ground.discard(layer)


def make_base(ground: Ground, python: str, prepare: Callable[[Installation], None]) -> Base:
    """Install as root, with a service account that the installation creates; then run *prepare* on it."""
    layer, port = ground.new_layer(), free_port()
    with ground.machine(layer) as machine:
        machine.check("sh", "-c", FREE_THE_NAME)
        machine.check("sh", "-c", f"echo victim:x:54322:54322::/nonexistent:/usr/sbin/nologin >> /etc/passwd;"
                      f"echo tenant:x:54321:54321::{HOMES}/tenant:/usr/sbin/nologin >> /etc/passwd;"
                      "echo victim:x:54322: >> /etc/group; echo tenant:x:54321: >> /etc/group")  # fmt: skip
        root = Installation(machine=machine, python=python, port=port, owner=(0, 0))
        for words in (("install", "--port", str(port), "--no-service", "--no-start"), ("backup", "create")):
            ended = root.verb(*words, limit=120)
            assert ended.code == 0, ended
        status = machine.file(HOME).stat()
        owner = (status.st_uid, status.st_gid)
        assert 0 not in owner
        machine.file(f"{HOME}/data/.ballast").unlink(missing_ok=True)  # 64 MB less to copy; a start creates it
        create_watched(machine)
        uid, gid = map(str, owner)
        machine.check("install", "-d", "-m", "755", "-o", uid, "-g", gid, THEIRS)
        machine.check("install", "-d", "-m", "777", DROP)
        prepare(Installation(machine=machine, python=python, port=port, owner=owner))
    return Base(ground=ground, layer=layer, python=python, port=port, owner=owner)


class Watch:
    """The files of root and the tenant and the user database before an attack; `check` compares them afterwards."""

    def __init__(self, installation: Installation) -> None:
        self._machine = installation.machine
        self._before = tree_state(self._machine)
        self._stamp = stamp(self._machine)
        self._accounts = self._read_accounts()

    def check(self, *ended: Ended) -> None:
        """Fail if a verb hung or crashed, ran a planted program as root, or changed or showed files of others."""
        faults = [*(fault for one in ended for fault in _faults(one)), *self.harm(*ended)]
        faults += ["INTERNAL in the output" for one in ended if "INTERNAL" in one.output]
        assert not faults, (faults, *ended)

    def check_race(self, *ended: Ended) -> None:
        """Do as `check` does, but accept internal errors of a verb whose files were moved while it was running."""
        faults = [*(fault for one in ended for fault in _faults(one)), *self.harm(*ended)]
        assert not faults, (faults, *ended)

    def harm(self, *ended: Ended) -> list[str]:
        """Return what happened or was shown that the account could not do or see by itself."""
        found = [f"ran as root: {line}" for line in self.executed_as_root()]
        found += differences(self._before, tree_state(self._machine))
        found += [f"shown in {path}" for path in leaks(self._machine, self._stamp)]
        found += ["shown on the terminal" for one in ended if TOKEN in one.output]
        others = {"root", "victim", "tenant"}
        changed = self._accounts ^ self._read_accounts()
        return found + [f"accounts: {line}" for line in changed if line.split(":")[0] in others]

    def executed_as_root(self) -> list[str]:
        """Return the first line written by each run of a planted program with user id 0."""
        paths = sorted(self._machine.file(DROP).glob("executed-0-*"))
        return [(path.read_text(errors="replace").splitlines() or [path.name])[0] for path in paths]

    def users_who_ran(self) -> set[int]:
        """Return the user ids with which planted programs ran."""
        return {int(path.name.split("-")[1]) for path in self._machine.file(DROP).glob("executed-*")}

    def _read_accounts(self) -> set[str]:
        return set(self._machine.check("sh", "-c", "cat /etc/passwd /etc/group").splitlines())


def _faults(ended: Ended) -> list[str]:
    found = []
    if ended.code is None:
        found.append("did not end in time")
    elif ended.code not in EXIT_CODES:
        found.append(f"exit code {ended.code}")
    return found + [f"{word} in the output" for word in ("Traceback", "MemoryError") if word in ended.output]


def differences(before: TreeState, after: TreeState) -> list[str]:
    """Return descriptions of what differs."""
    gone = [f"removed: {path}" for path in before if path not in after]
    new = [f"created: {path}" for path in after if path not in before]
    changed = [
        f"changed: {path}: {before[path]} -> {after[path]}"
        for path in before
        if path in after and before[path] != after[path]
    ]
    return gone + new + changed
