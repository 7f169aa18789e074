"""One verb that root runs on one home: the account chosen, the record written, the worker run, the rest made good."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.cli.owner_process import owner_of, unprivileged
from mosaic_gateway.cli.root import run_words
from mosaic_gateway.cli.worker_process import run_worker
from mosaic_gateway.config import SYSTEM_HOME
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.machine_record import (
    MachineRecord,
    read_machine_record,
    records_locked,
    remove_machine_record,
    write_machine_record,
)
from mosaic_gateway.process.access import closed_part, interpreter_closed_to
from mosaic_gateway.process.account import Account, HomeOwnerError, account_named, account_of
from mosaic_gateway.process.channel import BrokerClient
from mosaic_gateway.process.trusted_path import FoundPath, find_path, open_directory
from mosaic_gateway_installer.checks.home_errors import HomeUnusableError
from mosaic_gateway_installer.root.broker import RootBroker
from mosaic_gateway_installer.root.former_programs import roots_programs
from mosaic_gateway_installer.root.grants import Call
from mosaic_gateway_installer.root.plan import (
    COMMAND,
    Options,
    Planned,
    check_run_as,
    entries_of,
    host_of,
    plan_installation,
    port_of,
    program_directory,
)
from mosaic_gateway_installer.root.service_account import (
    COMMENT,
    SERVICE_ACCOUNT,
    make_account,
    remove_account,
)

__all__ = ["RootSession", "unusable"]

INSTALL = "mosaic_gateway_installer.install.verb"
#: Verbs that change an installation so that root's record must be there first.
TAKING_OVER = frozenset({"install", "upgrade", "uninstall", "backup restore"})


class RootSession:
    """A verb of root's on the home that was *found*."""

    def __init__(self, invocation: Invocation, verb: str, found: FoundPath, options: Options) -> None:
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
            return make_account(record)
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
        check_run_as(self._home, account.name, self._options)
        before = record = self._record
        if self._changes(TAKING_OVER):
            record = self._adopted(account) if record is None else replace(record, uid=account.uid)
            record = self._prepared(record) if record is not None else None
        elif record is not None:
            record = self._addressed(record)
        broker = RootBroker(record, self._home, account, self._call)
        code = self._work(account, broker, {})
        self._settle(broker, code, before=before)
        return code

    def look(self, planned: Planned | None) -> int:
        """Run a verb that only looks, or finds nothing to do, where no account's home is."""
        account = (planned.account if planned is not None else None) or unprivileged()
        record = planned.record if planned is not None else None
        if planned is not None and self._found.is_directory and closed_part(self._home, account) is not None:
            raise HomeUnusableError(
                f"{self._home} is root's own and closed to {account.name}: before it is handed over, no check can look",
                hint="Remove the empty directory, or run the command without --dry-run.",
            )
        broker = RootBroker(record, self._home, account, replace(self._call, read_only=True))
        return self._work(account, broker, _facts(planned))

    def create(self) -> int:
        """Make the installation: checks first, then what only root can make, then the verb as the account.

        An empty directory that is there may be closed to the account: it is handed over first, and given back where
        the verb's own checks fail.
        """
        with ExitStack() as stack:
            with records_locked():
                found = stack.enter_context(find_path(self._home))
                session = RootSession(self._invocation, self._verb, found, self._options)
                if found.owner:  # another command of root's has made it meanwhile
                    account = session.owner()
                else:
                    planned = session.plan()
                    code = session.check(planned)
                    if code:
                        return code
                    account = session.make(planned)
            return session.run_as(account)

    def check(self, planned: Planned) -> int:
        """Run the checks of an installation that is to be made, and return the exit code."""
        if self._verb != "install" or self._found.status is not None:
            return 0
        import_module(INSTALL)  # once, for the process that checks and for the one that installs
        read_only = planned.account or unprivileged()
        broker = RootBroker(planned.record, self._home, read_only, replace(self._call, read_only=True))
        return self._work(read_only, broker, {**_facts(planned), "only_checks": True}, quiet=True)

    def forget(self) -> bool:
        """Complete a purge that was killed when the home had gone already; return whether there was one."""
        if self._record is None or self._options.get("purge") is None or self._options.get("dry_run"):
            return False
        broker = RootBroker(self._record, self._home, _account_of(self._record), self._call)
        broker.left = True
        broker.remove_program_directory()
        broker.close(0)
        return True

    def plan(self) -> Planned:
        """Return what would be made here. Raises what `plan_installation` raises."""
        return plan_installation(self._found, self._record, self._options)

    def _changes(self, verbs: Collection[str]) -> bool:
        """Return whether the verb is one of *verbs*, and is to do more than say what it would do."""
        return self._verb in verbs and not self._options.get("dry_run")

    # What is made.

    def make(self, planned: Planned) -> Account:
        """Note what is about to be made, then make it: the account, the home, which is handed over, the directories.

        What was made goes again where the rest cannot be. Raises `HomeUnusableError`, MosaicError.
        """
        self._record = planned.record
        write_machine_record(self._record)
        try:
            account = planned.account or make_account(planned.record)
            self._record = replace(planned.record, uid=account.uid)
            write_machine_record(self._record)
            _make_home(self._found, account)
            self._record = self._prepared(self._record)
        except (OSError, MosaicError) as error:
            self._roll_back(self._record)
            if isinstance(error, OSError):
                raise unusable(self._home, error) from error
            raise
        return account

    def _prepared(self, record: MachineRecord) -> MachineRecord:
        """See to it that root's directory of programs is there, and that the record has what root says now."""
        with find_path(record.programs, roots=True) as found:
            os.close(open_directory(found))
        known = self._addressed(record)
        if known != self._record:
            write_machine_record(known)
        return known

    def _addressed(self, record: MachineRecord) -> MachineRecord:
        """Return *record* with the address that root names now, if it does."""
        return replace(record, host=host_of(record, self._options), port=port_of(record, self._options))

    def _adopted(self, account: Account) -> MachineRecord | None:
        """Return a new record of an installation that root made with version 0.1.0, which had none; else None.

        Nothing of the home is believed: that the account is the installation's own say its name, its home directory and
        its comment, and whose the home is; that there is a unit says what root wrote into it.
        """
        from mosaic_gateway_installer.service.machine_unit import unit_for

        created = account.name.startswith(SERVICE_ACCOUNT) and account.comment == COMMENT
        created = created and Path(account.directory) == self._home
        unit = unit_for(self._home)
        if not created and unit is None and not roots_programs(self._found):
            return None
        self._record = MachineRecord(
            home=self._home,
            account=account.name,
            uid=account.uid,
            programs=program_directory(self._home, None, self._options),
            account_created=created,
            directories=(self._home,),
            unit=unit.to_dict() if unit is not None else None,
            command=COMMAND if self._home == SYSTEM_HOME else None,
            complete=True,
        )
        write_machine_record(self._record)
        return self._record

    # How it ends.

    def _work(self, account: Account, broker: RootBroker, facts: Mapping[str, Any], *, quiet: bool = False) -> int:
        invocation = self._invocation

        def run(client: BrokerClient) -> int:
            return run_words(invocation.verbs, invocation.words, broker=client)

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
            run=run,
            verb=self._verb,
            environ=environ,
            quiet=quiet,
        )

    def _settle(self, broker: RootBroker, code: int, *, before: MachineRecord | None) -> None:
        """After the worker: a purge is completed, a first installation that failed is taken back."""
        broker.close(code)
        record = broker.record
        if record is None or broker.left:
            return
        if code == 0 and not record.complete and self._verb in TAKING_OVER:
            write_machine_record(replace(record, complete=True))
        if code and not record.complete and self._is_empty():
            self._roll_back(record)
        elif before is None and record.complete and not (record.programs / "current").is_symlink():
            # Taken over for this verb, which put no programs in place: the installation is as it was.
            broker.remove_program_directory()
            remove_machine_record(self._home)

    def _is_empty(self) -> bool:
        with find_path(self._home) as found:
            return not found.is_directory or not entries_of(found)

    def _roll_back(self, record: MachineRecord) -> None:
        """Remove what root has made for an installation that did not come about. Raises OSError, MosaicError."""
        broker = RootBroker(record, self._home, _account_of(record), self._call)
        broker.remove_program_directory()
        broker.remove_home()
        if record.account_created:
            remove_account(record.account)
        before = self._found.status
        with find_path(self._home) as found:
            if found.is_directory and before is not None:
                home = open_directory(found)
                try:
                    os.fchown(home, before.st_uid, before.st_gid)
                    os.fchmod(home, stat.S_IMODE(before.st_mode))
                finally:
                    os.close(home)
        remove_machine_record(self._home)


def _facts(planned: Planned | None) -> dict[str, Any]:
    if planned is None:
        return {}
    created = planned.account is None
    return {"programs": str(planned.record.programs), "account": planned.record.account, "account_to_make": created}


def _account_of(record: MachineRecord) -> Account:
    """Return the account of *record*, be it there or not."""
    gone = Account(name=record.account, uid=record.uid, gid=record.uid, directory=str(record.home))
    return account_named(record.account) or gone


def unusable(home: Path, error: OSError) -> HomeUnusableError:
    """Return the error that says why *home* cannot be made or looked at."""
    return HomeUnusableError(f"{home} cannot be used: {error.strerror}", hint="Choose another --home.")


def _make_home(found: FoundPath, account: Account) -> None:
    """Make the home, or take the empty directory that is there, and hand it over. Raises OSError."""
    home = open_directory(found)
    try:
        os.fchmod(home, 0o700)
        os.fchown(home, account.uid, account.gid)
    finally:
        os.close(home)
