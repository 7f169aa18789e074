"""One verb that root runs on one home: choose the account, write root's record, run the worker, clean up."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mosaic_gateway import cli, installation, process
from mosaic_gateway.config import SYSTEM_HOME
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import command
from mosaic_gateway_installer.checks import home_errors
from mosaic_gateway_installer.root import service_account
from mosaic_gateway_installer.root.broker import RootBroker
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
from mosaic_gateway_installer.root.program_directory import roots_programs

__all__ = ["RootSession", "unusable"]

INSTALL = "mosaic_gateway_installer.install.verb"
#: Verbs that need root's record; they create one for an installation of version 0.1.0, which has none.
RECORDED = frozenset({"install", "upgrade", "uninstall", "backup restore"})
#: Verbs that copy programs; without root's record, into the home.
PLACING = RECORDED - {"uninstall"}


class RootSession:
    """A verb of root's on the home that was *found*."""

    def __init__(self, invocation: cli.Invocation, verb: str, found: process.FoundPath, options: Options) -> None:
        self._invocation = invocation
        self._verb = verb
        self._found = found
        self._options = options
        self._call = Call(verb, options)
        self._home = found.path
        self._record = installation.read_machine_record(found.path)

    def owner(self) -> process.Account:
        """Return the account that owns the home. If it was deleted but root had created it, create it again.

        Raises `HomeOwnerError` if the owner is not the account for which root created the home, CommandFailedError.
        """
        found, record = self._found, self._record
        if record is None:
            return cli.owner_of(found)
        account = process.account_named(record.account)
        if account is not None and account.uid == found.owner:
            return account
        deleted = (
            account is None
            and record.account_created
            and found.owner == record.uid
            and not process.account_of(record.uid)
        )
        if deleted and self._changes(RECORDED):
            return service_account.create_account(record)
        raise process.HomeOwnerError(
            f"{self._home} is owned by user id {found.owner}, but root created it for {record.account} "
            + (f"(user id {account.uid})" if account is not None else "(which does not exist)"),
            hint="Run as root: " + command("install") + ", which creates the account again."
            if deleted
            else f"Change the owner: chown -R {record.account}: {self._home}"
            + (f" (first: useradd --system {record.account})" if account is None else ""),
        )

    def run_as(self, account: process.Account) -> int:
        """Run the verb as *account*, which owns the home."""
        check_run_as(self._home, account.name, self._options)
        before = record = self._record
        if self._changes(RECORDED):
            record = self._record_of_former_version(account) if record is None else replace(record, uid=account.uid)
            record = self._prepared(record) if record is not None else None
        elif record is not None:
            record = self._with_address(record)
        if record is None and self._changes(PLACING):
            self._check_interpreter(account)
        broker = RootBroker(record, self._home, account, self._call)
        code = self._run_worker(account, broker, {})
        self._settle(broker, code, before=before)
        return code

    def _check_interpreter(self, account: process.Account) -> None:
        """Raise `OwnerCannotRunError` if the verb would copy programs into the home that *account* cannot run."""
        closed = process.interpreter_closed_to(account)
        if closed is not None:
            raise home_errors.OwnerCannotRunError(
                f"{self._home} is the own home of {account.name}, who has no access to {closed}: a program copied "
                "into it from there could be run by root only",
                hint=f"Nothing was changed. Run the command as {account.name}, or as root with a Python that every "
                "user can run: /usr/bin/python3 -m venv",
            )

    def run_read_only(self, planned: Planned | None) -> int:
        """Run a verb read-only where no account owns a home: it only reads, or finds that there is no installation."""
        account = (planned.account if planned is not None else None) or cli.unprivileged()
        record = planned.record if planned is not None else None
        if planned is not None and self._found.is_directory and process.closed_part(self._home, account) is not None:
            raise home_errors.HomeUnusableError(
                f"{self._home} is owned by root and closed to {account.name}, so the checks cannot run",
                hint="Remove the empty directory, or run the command without --dry-run, which changes the owner.",
            )
        broker = RootBroker(record, self._home, account, replace(self._call, read_only=True))
        return self._run_worker(account, broker, _facts(planned))

    def create(self) -> int:
        """Create the installation: run the checks, create what only root can create, run the verb as the account.

        An existing empty directory may be closed to the account, so its owner is changed first; if the verb's own
        checks then fail, owner and mode are restored.
        """
        with ExitStack() as stack:
            with installation.records_locked():
                found = stack.enter_context(process.find_path(self._home))
                session = RootSession(self._invocation, self._verb, found, self._options)
                if found.owner:  # another command run by root has created it in the meantime
                    account = session.owner()
                else:
                    planned = session.plan()
                    code = session.check(planned)
                    if code:
                        return code
                    account = session.create_places(planned)
            return session.run_as(account)

    def check(self, planned: Planned) -> int:
        """Run the checks of the *planned* installation, and return the exit code."""
        if self._verb != "install" or self._found.status is not None:
            return 0
        import_module(INSTALL)  # before the forks, so that the checking and the installing worker share it
        account = planned.account or cli.unprivileged()
        broker = RootBroker(planned.record, self._home, account, replace(self._call, read_only=True))
        return self._run_worker(account, broker, {**_facts(planned), "only_checks": True}, quiet=True)

    def complete_purge(self) -> bool:
        """Complete a purge that was killed after it had removed the home; return whether there was one."""
        if self._record is None or self._options.get("purge") is None or self._options.get("dry_run"):
            return False
        broker = RootBroker(self._record, self._home, _account_of(self._record), self._call)
        broker.purged = True
        broker.programs.remove_directory()
        broker.close(0)
        return True

    def plan(self) -> Planned:
        """Return the plan of the installation. Raises the errors of `plan_installation`."""
        return plan_installation(self._found, self._record, self._options)

    def _changes(self, verbs: Collection[str]) -> bool:
        """Return whether the verb is one of *verbs*, without ``--dry-run``."""
        return self._verb in verbs and not self._options.get("dry_run")

    # Creation.

    def create_places(self, planned: Planned) -> process.Account:
        """Write root's record, then create the account, the home, and the directory of programs.

        If one of them fails, the others are removed again. Raises `HomeUnusableError`, MosaicError.
        """
        self._record = planned.record
        installation.write_machine_record(self._record)
        try:
            account = planned.account or service_account.create_account(planned.record)
            self._record = replace(planned.record, uid=account.uid)
            installation.write_machine_record(self._record)
            _create_home(self._found, account)
            self._record = self._prepared(self._record)
        except (OSError, MosaicError) as error:
            self._roll_back(self._record)
            if isinstance(error, OSError):
                raise unusable(self._home, error) from error
            raise
        return account

    def _prepared(self, record: installation.MachineRecord) -> installation.MachineRecord:
        """Create root's directory of programs if missing, and write the record with the address that root gives."""
        with process.find_path(record.programs, roots=True) as found:
            os.close(process.open_directory(found))
        updated = self._with_address(record)
        if updated != self._record:
            installation.write_machine_record(updated)
        return updated

    def _with_address(self, record: installation.MachineRecord) -> installation.MachineRecord:
        """Return *record* with the host and port that root gives, if any."""
        return replace(record, host=host_of(record, self._options), port=port_of(record, self._options))

    def _record_of_former_version(self, account: process.Account) -> installation.MachineRecord | None:
        """Write and return a record for an installation that root created with version 0.1.0, which wrote none.

        Returns None if root did not create it. No file in the home is read. Root created the account if its name,
        comment and home directory are right and it owns the home; the unit is the unit file that names the home.
        """
        from mosaic_gateway_installer.service.machine_unit import unit_for

        created = (
            account.name.startswith(service_account.SERVICE_ACCOUNT) and account.comment == service_account.COMMENT
        )
        created = created and Path(account.directory) == self._home
        unit = unit_for(self._home)
        if not created and unit is None and not roots_programs(self._found):
            return None
        self._record = installation.MachineRecord(
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
        installation.write_machine_record(self._record)
        return self._record

    # The worker, and what follows it.

    def _run_worker(
        self, account: process.Account, broker: RootBroker, facts: Mapping[str, Any], *, quiet: bool = False
    ) -> int:
        invocation = self._invocation

        def run(client: process.BrokerClient) -> int:
            return cli.run_words(invocation.verbs, invocation.words, broker=client)

        own: dict[str, Any] = {"account": None}
        environ = {}
        if broker.record is not None:
            environ = {"MOSAIC_GATEWAY_CACHE": str(broker.programs.cache)}
            closed = process.interpreter_closed_to(broker.known_account())
            own = {"account": broker.record.account, "interpreter_closed": str(closed) if closed is not None else None}
        return cli.run_worker(
            invocation,
            account,
            facts={"home": str(self._home), **own, **facts},
            answer=broker.answer,
            run=run,
            verb=self._verb,
            environ=environ,
            quiet=quiet,
        )

    def _settle(self, broker: RootBroker, code: int, *, before: installation.MachineRecord | None) -> None:
        """Complete a purge, or roll back a failed first installation, after the worker has exited."""
        broker.close(code)
        record = broker.record
        if record is None or broker.purged:
            return
        if code == 0 and not record.complete and self._verb in RECORDED:
            installation.write_machine_record(replace(record, complete=True))
        if code and not record.complete and self._is_empty():
            self._roll_back(record)
        elif before is None and record.complete and not (record.programs / "current").is_symlink():
            # The record was created for this verb, which placed no programs: restore the state before it.
            broker.programs.remove_directory()
            installation.remove_machine_record(self._home)

    def _is_empty(self) -> bool:
        with process.find_path(self._home) as found:
            return not found.is_directory or not entries_of(found)

    def _roll_back(self, record: installation.MachineRecord) -> None:
        """Remove what root created for an installation that failed. Raises OSError, MosaicError."""
        broker = RootBroker(record, self._home, _account_of(record), self._call)
        broker.programs.remove_directory()
        broker.remove_home()
        if record.account_created:
            service_account.remove_account(record.account)
        before = self._found.status
        with process.find_path(self._home) as found:
            if found.is_directory and before is not None:
                home = process.open_directory(found)
                try:
                    os.fchown(home, before.st_uid, before.st_gid)
                    os.fchmod(home, stat.S_IMODE(before.st_mode))
                finally:
                    os.close(home)
        installation.remove_machine_record(self._home)


def _facts(planned: Planned | None) -> dict[str, Any]:
    if planned is None:
        return {}
    created = planned.account is None
    return {"programs": str(planned.record.programs), "account": planned.record.account, "account_to_make": created}


def _account_of(record: installation.MachineRecord) -> process.Account:
    """Return the account of *record*, from the record if it no longer exists."""
    deleted = process.Account(name=record.account, uid=record.uid, gid=record.uid, directory=str(record.home))
    return process.account_named(record.account) or deleted


def unusable(home: Path, error: OSError) -> home_errors.HomeUnusableError:
    """Return the error that says why *home* cannot be created or inspected."""
    return home_errors.HomeUnusableError(f"{home} cannot be used: {error.strerror}", hint="Choose another --home.")


def _create_home(found: process.FoundPath, account: process.Account) -> None:
    """Create the home, or use the existing empty directory, and make *account* its owner. Raises OSError."""
    home = process.open_directory(found)
    try:
        os.fchmod(home, 0o700)
        os.fchown(home, account.uid, account.gid)
    finally:
        os.close(home)
