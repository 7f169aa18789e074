"""One verb that root runs on one home: the account chosen, the record written, the worker run, the rest made good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.cli.owner_process import nobody, owner_of
from mosaic_gateway.cli.root import run_words
from mosaic_gateway.cli.worker_process import run_worker
from mosaic_gateway.config import SYSTEM_HOME, process_environment
from mosaic_gateway.errors import PreflightError, RefusedError, UsageError
from mosaic_gateway.gateway.service import Service
from mosaic_gateway.installation.machine_record import (
    MachineRecord,
    key_of,
    machine_records,
    read_machine_record,
    remove_machine_record,
    write_machine_record,
)
from mosaic_gateway.process.account import Account, HomeOwnerError, account_named, account_of
from mosaic_gateway.process.channel import BrokerClient
from mosaic_gateway.process.command import run
from mosaic_gateway.process.trusted_path import FoundPath, UnsafePathError, find_path
from mosaic_gateway_installer.broker import PROGRAMS, Broker, check_roots, may_pass, remove_account
from mosaic_gateway_installer.former_programs import roots_programs
from mosaic_gateway_installer.grants import Call
from mosaic_gateway_installer.root_side import TAKING_OVER
from mosaic_gateway_installer.service.choice import interpreter_closed_to
from mosaic_gateway_installer.service.machine_unit import unit_for

__all__ = ["SERVICE_ACCOUNT", "Session"]

SERVICE_ACCOUNT = "mosaic-gateway"
COMMENT = "mosaic-gateway service"
COMMAND = Path("/usr/local/bin/mosaic-gateway")
COMMAND_LIMIT = 30.0  # seconds
HIGHEST_PORT = 65535


class RunAsError(UsageError):
    """The account that was named cannot own the installation."""

    code = "RUN_AS"


class UserAddMissingError(PreflightError):
    """This machine has no ``useradd`` with which to make the service account."""

    code = "USERADD_MISSING"


class HomeForeignError(RefusedError):
    """The directory is root's own and holds something."""

    code = "HOME_FOREIGN"


class HomeUnreachableError(PreflightError):
    """The account may not enter a directory on the way to the home."""

    code = "HOME_UNUSABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An installation that root is about to make: ``account`` is None where that is still to be made."""

    record: MachineRecord
    account: Account | None


class Session:
    """A verb of root's on the home that was *found*."""

    def __init__(self, invocation: Invocation, verb: str, found: FoundPath, options: Mapping[str, Any]) -> None:
        self._invocation = invocation
        self._verb = verb
        self._found = found
        self._options = options
        self._call = Call(verb, options)
        self._home = found.path
        self._record = read_machine_record(found.path)

    def owner(self) -> Account:
        """Return the account that owns the home; one of ours that was removed is made again, with its user id.

        Raises `HomeOwnerError` if that is not the account for which root made the home, CommandFailedError.
        """
        found, record = self._found, self._record
        if record is None:
            return owner_of(found)
        account = account_named(record.account)
        if account is not None and account.uid == found.owner:
            return account
        lost = account is None and record.account_created and found.owner == record.uid and not account_of(record.uid)
        if lost and self._changes(TAKING_OVER):
            return _make_account(record)
        raise HomeOwnerError(
            f"{self._home} belongs to user id {found.owner}, but root made it for {record.account} "
            + (f"(user id {account.uid})" if account is not None else "which this machine does not know"),
            hint="Run as root: mosaic-gateway install, which makes the account again."
            if lost
            else f"Give it back: chown -R {record.account}: {self._home}"
            + (f" (first: useradd --system {record.account})" if account is None else ""),
        )

    def run_as(self, account: Account) -> int:
        """Run the verb as *account*, which owns the home."""
        self._check_run_as(account.name)
        before = record = self._record
        if self._changes(TAKING_OVER):
            record = self._taken_over(account) if record is None else replace(record, uid=account.uid)
            record = self._prepared(record) if record is not None else None
        elif record is not None:
            record = replace(record, host=self._host(), port=self._port())
        broker = Broker(record, self._home, account, self._call)
        code = self._work(account, broker, {})
        self._settle(broker, code, before=before)
        return code

    def look(self, planned: Planned | None, nobody: Account) -> int:
        """Run a verb that only looks, or finds nothing to do, where no account's home is."""
        account = planned.account or nobody if planned is not None else nobody
        record = planned.record if planned is not None else None
        broker = Broker(record, self._home, account, replace(self._call, looking=True))
        return self._work(account, broker, _facts(planned))

    def create(self) -> int:
        """Make the installation: checks first, then what only root can make, then the verb as the account."""
        planned = self.planned()
        if self._verb == "install":
            looking = planned.account or nobody()
            broker = Broker(planned.record, self._home, looking, replace(self._call, looking=True))
            code = self._work(looking, broker, {**_facts(planned), "only_checks": True}, quiet=True)
            if code:
                return code
        account = self._make(planned)
        if self._record is None:
            raise LookupError(self._home)
        broker = Broker(self._record, self._home, account, self._call)
        code = self._work(account, broker, {})
        self._settle(broker, code, before=None)
        return code

    def forget(self) -> bool:
        """Complete a purge that was killed when the home had gone already; return whether there was one."""
        if self._record is None or self._options.get("purge") is None or self._options.get("dry_run"):
            return False
        account = account_named(self._record.account)
        broker = Broker(self._record, self._home, account or _gone(self._record), self._call)
        broker.left = True
        broker.forget_programs()
        broker.close(0)
        return True

    def planned(self) -> Planned:
        """Return what would be made here. Raises `RunAsError`, `HomeForeignError`, `UnsafePathError` and the like."""
        self._check_place()
        name, account, make = self._choose_account()
        self._check_run_as(name)
        self._check_way(account, name)
        if make and shutil.which("useradd") is None:
            raise UserAddMissingError(
                "this machine has no useradd to make a service account with",
                hint="Name an existing user with --run-as.",
            )
        missing = [self._home, *self._home.parents][: len(self._found.missing)]
        known = self._record
        record = MachineRecord(
            home=self._home,
            account=name,
            uid=account.uid if account is not None else 0,
            programs=self._program_directory(),
            account_created=make or (known is not None and known.account_created and known.account == name),
            directories=tuple(reversed(missing)) or (known.directories if known is not None else ()),
            command=COMMAND if self._home == SYSTEM_HOME else None,
            host=self._host(),
            port=self._port(),
        )
        return Planned(record=record, account=account)

    def _changes(self, verbs: Collection[str]) -> bool:
        """Return whether the verb is one of *verbs*, and is to do more than say what it would do."""
        return self._verb in verbs and not self._options.get("dry_run")

    # What is checked.

    def _check_place(self) -> None:
        """Root makes a home only where no other user could put something in its place, and never over something."""
        if self._found.status is None:
            parent = os.fstat(self._found.parent)
            if parent.st_uid != 0:
                raise UnsafePathError(
                    f"root makes no home below the directory of another user: {self._home}",
                    hint="Choose a --home below a directory of root's, or install as that user.",
                )
            return
        if not self._found.is_directory:
            raise HomeUnreachableError(f"{self._home} is not a directory", hint="Choose another --home.")
        directory = os.open(self._found.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._found.parent)
        try:
            there = sorted(os.listdir(directory))  # noqa: PTH208 - of a descriptor
        finally:
            os.close(directory)
        if there:
            raise HomeForeignError(
                f"{self._home} is root's own, and it is not empty: {', '.join(there[:5])}",
                hint="Nothing was changed. Choose an empty or new directory with --home.",
            )

    def _check_way(self, account: Account | None, name: str) -> None:
        for parent in self._home.parents:
            if parent.exists() and not may_pass(parent, account):
                raise HomeUnreachableError(
                    f"{name} may not enter {parent}, so PostgreSQL could not reach {self._home}",
                    hint="Choose a --home below a directory that is open to all, such as /var/lib.",
                )

    def _check_run_as(self, name: str) -> None:
        run_as = self._options.get("run_as")
        if run_as not in {None, name}:
            raise RunAsError(f"{self._home} belongs to {name}", hint="Leave --run-as out, or choose another --home.")

    # What is chosen.

    def _choose_account(self) -> tuple[str, Account | None, bool]:
        """Return name and account of the home's owner to be, and whether root is to make it."""
        if self._record is not None:
            account = account_named(self._record.account)
            return self._record.account, account, account is None
        run_as = self._options.get("run_as")
        if run_as is not None:
            account = account_named(str(run_as))
            if account is None or account.uid == 0:
                raise RunAsError(
                    f"{run_as} is {'root' if account else 'no user of this machine'}; PostgreSQL refuses to run so",
                    hint="Name an existing user other than root.",
                )
            return account.name, account, False
        own = f"{SERVICE_ACCOUNT}-{key_of(self._home)[:8]}"
        taken = {record.account for record in machine_records() if record.account_created}
        account = account_named(SERVICE_ACCOUNT)
        of_another = account is not None and account.comment == COMMENT and Path(account.directory) != self._home
        if SERVICE_ACCOUNT not in taken and not of_another:
            return SERVICE_ACCOUNT, account, account is None
        return own, account_named(own), account_named(own) is None

    def _program_directory(self) -> Path:
        if self._record is not None:
            return self._record.programs
        named = self._options.get("program_dir")
        directory = Path(named) if named is not None else PROGRAMS / key_of(self._home)
        with find_path(directory, roots=True) as found:
            if found.is_directory and named is not None and any(found.path.iterdir()):
                raise HomeForeignError(
                    f"{directory} is not empty", hint="Name an empty or new directory with --program-dir."
                )
            return found.path

    def _host(self) -> str | None:
        named = self._options.get("host") or process_environment().get("MOSAIC_GATEWAY_HOST")
        return str(named) if named else (self._record.host if self._record is not None else None)

    def _port(self) -> int | None:
        named = self._options.get("port") or process_environment().get("MOSAIC_GATEWAY_PORT") or ""
        if str(named).isdecimal() and 0 < int(named) <= HIGHEST_PORT:
            return int(named)
        return self._record.port if self._record is not None else None

    # What is made.

    def _make(self, planned: Planned) -> Account:
        """Note what is about to be made, then make it: the account, the home, which is handed over, the directories."""
        write_machine_record(planned.record)
        account = planned.account or _make_account(planned.record)
        self._record = replace(planned.record, uid=account.uid)
        write_machine_record(self._record)
        _make_home(self._found, account)
        self._record = self._prepared(self._record)
        return account

    def _prepared(self, record: MachineRecord) -> MachineRecord:
        """See to it that root's directory of programs is there, and that the record has what root says now."""
        check_roots(record.programs)
        for directory in (*reversed(record.programs.parents), record.programs):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o755)
                directory.chmod(0o755)
        known = replace(record, host=self._host() or record.host, port=self._port() or record.port)
        if known != self._record:
            write_machine_record(known)
        return known

    def _taken_over(self, account: Account) -> MachineRecord | None:
        """Return a new record of an installation that root made with version 0.1.0, which had none; else None.

        Nothing of the home is believed: that the account is the installation's own say its name, its home directory and
        its comment, and whose the home is; that there is a unit says what root wrote into it.
        """
        created = account.name.startswith(SERVICE_ACCOUNT) and account.comment == COMMENT
        created = created and Path(account.directory) == self._home
        unit = unit_for(self._home)
        if not created and unit is None and not roots_programs(self._found):
            return None
        self._record = MachineRecord(
            home=self._home,
            account=account.name,
            uid=account.uid,
            programs=self._program_directory(),
            account_created=created,
            directories=(self._home,),
            unit=unit.to_dict() if isinstance(unit, Service) else None,
            command=COMMAND if self._home == SYSTEM_HOME else None,
            host=self._host(),
            port=self._port(),
            complete=True,
        )
        write_machine_record(self._record)
        return self._record

    # How it ends.

    def _work(self, account: Account, broker: Broker, facts: Mapping[str, Any], *, quiet: bool = False) -> int:
        invocation = self._invocation

        def run_here(words: Sequence[str], client: BrokerClient) -> int:
            return run_words(invocation.verbs, words, module=invocation.module, broker=client)

        own: dict[str, Any] = {"account": None}
        environ = {}
        if broker.record is not None:
            environ = {"MOSAIC_GATEWAY_CACHE": str(broker.cache)}
            closed = interpreter_closed_to(broker.known_account())
            own = {"account": broker.record.account, "interpreter_closed": str(closed) if closed is not None else None}
        return run_worker(
            invocation,
            account,
            facts={"home": str(self._home), **own, **facts},
            answer=broker.answer,
            run=run_here,
            verb=self._verb,
            environ=environ,
            quiet=quiet,
        )

    def _settle(self, broker: Broker, code: int, *, before: MachineRecord | None) -> None:
        """After the worker: a purge is completed, a first installation that failed is taken back."""
        broker.close(code)
        record = broker.record
        if record is None or broker.left:
            return
        if code == 0 and not record.complete and self._verb in TAKING_OVER:
            write_machine_record(replace(record, complete=True))
        if code and not record.complete and self._is_empty():
            self._take_back(broker, record)
        elif before is None and record.complete and not (record.programs / "current").is_symlink():
            # Taken over for this verb, which put no programs in place: the installation is as it was.
            broker.forget_programs()
            remove_machine_record(self._home)

    def _is_empty(self) -> bool:
        with find_path(self._home) as found:
            if not found.is_directory:
                return True
            directory = os.open(found.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=found.parent)
            try:
                return not os.listdir(directory)  # noqa: PTH208 - of a descriptor
            finally:
                os.close(directory)

    def _take_back(self, broker: Broker, record: MachineRecord) -> None:
        broker.forget_programs()
        broker.remove_home()
        if record.account_created:
            remove_account(record.account)
        with find_path(self._home) as found:
            if found.status is not None:  # it was there before us
                os.chown(found.name, 0, 0, dir_fd=found.parent, follow_symlinks=False)
        remove_machine_record(self._home)


def _facts(planned: Planned | None) -> dict[str, Any]:
    if planned is None:
        return {}
    created = planned.account is None
    return {"programs": str(planned.record.programs), "account": planned.record.account, "account_to_make": created}


def _gone(record: MachineRecord) -> Account:
    return Account(name=record.account, uid=record.uid, gid=record.uid, directory=str(record.home))


def _make_account(record: MachineRecord) -> Account:
    useradd = shutil.which("useradd")
    if useradd is None:
        raise UserAddMissingError(
            "this machine has no useradd", hint="Create a user for the gateway and name it with --run-as."
        )
    words = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    home = ["--home-dir", str(record.home), "--comment", COMMENT]
    again = ["--uid", str(record.uid)] if record.uid else []
    run([useradd, *words, *home, *again, record.account], timeout=COMMAND_LIMIT)
    account = account_named(record.account)
    if account is None:
        raise LookupError(record.account)
    return account


def _make_home(found: FoundPath, account: Account) -> None:
    """Make the home, or take the empty directory that is there, and hand it over. Each step names one component."""
    parent = os.dup(found.parent)
    names = found.missing or (found.name,)
    try:
        for name in names[:-1]:
            os.mkdir(name, 0o755, dir_fd=parent)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            os.fchmod(inner, 0o755)
            os.close(parent)
            parent = inner
        if found.missing:
            os.mkdir(names[-1], 0o700, dir_fd=parent)
        home = os.open(names[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.fchmod(home, 0o700)
            os.fchown(home, account.uid, account.gid)
        finally:
            os.close(home)
    finally:
        os.close(parent)
