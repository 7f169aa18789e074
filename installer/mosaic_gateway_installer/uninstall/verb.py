"""The verb ``uninstall``: remove the programs and retain the data, or remove both with ``--purge`` and the id."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mosaic_gateway import installation
from mosaic_gateway.cli import Outcome, Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import Text, command
from mosaic_gateway.process import Request
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.program_copy.command_link import UnlinkCommandStep
from mosaic_gateway_installer.program_copy.store import runs_from_copy
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import UnregisterStep
from mosaic_gateway_installer.session import Recovery, session
from mosaic_gateway_installer.step import Step, Target
from mosaic_gateway_installer.step_runner import execute
from mosaic_gateway_installer.uninstall.inventory import data_and_settings, inventory
from mosaic_gateway_installer.uninstall.steps import (
    EraseStep,
    RecordStateStep,
    RemoveCachesStep,
    RemoveHomeStep,
    RemoveProgramsStep,
    SetAsideStep,
)

__all__ = ["PurgeNotConfirmedError", "purge_command", "uninstall"]


class PurgeNotConfirmedError(RefusedError):
    """The given instance id is not that of this installation."""

    code = "PURGE_NOT_CONFIRMED"


def uninstall(home: installation.Home, *, purge: str | None, dry_run: bool) -> Outcome:
    """Remove the installation in *home*; with its instance id as *purge*, remove the data as well.

    Files are renamed before they are deleted; if that fails, the renames are rolled back. Raises
    `NotInstalledError`, `PurgeNotConfirmedError`, BusyError and OSError.
    """
    if not dry_run:
        installation.open_to_owner(home)
    if purge is not None and not dry_run and _removed_remainder(home):
        return Outcome(result={"home": str(home.path), "purged": True}, lines=(f"Removed {home.path}.",))
    receipt = installation.installed(home)
    if purge is not None and purge != receipt.instance_id:
        raise PurgeNotConfirmedError(
            f"{purge!r} is not the instance id of {home.path}",
            hint=f"Nothing was removed. The id is in {home.receipt} and in " + command("status") + ".",
        )
    if dry_run:
        removal = _removal(home, receipt, everything=purge is not None)
        return _outcome(removal, dry_run=True)
    recovery = Recovery.ALL if purge is None else Recovery.ALL_BUT_UPGRADE
    with session(home, "uninstall", recovery=recovery, removing=True) as report:
        removal = _removal(home, installation.installed(home), everything=purge is not None)
        removal.run(report)
    return _outcome(removal, dry_run=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removal:
    """The steps of an uninstall, and the paths that it removes and retains, for the output."""

    target: Target
    receipt: installation.Receipt
    everything: bool
    reversible: tuple[Step, ...]
    final: tuple[Step, ...]
    leave: RemoveHomeStep | None
    removed: tuple[str, ...]
    retained: tuple[str, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return (*self.reversible, *self.final, *([self.leave] if self.leave is not None else []))

    def run(self, report: Reporter) -> None:
        """Run the steps."""

        def finish() -> None:
            if self.leave is not None:
                report.begin(self.leave.description)
                self.leave.apply()
            else:
                self.target.journal.close()

        verb = "uninstall"
        execute(verb, self.reversible, self.target.journal, report, lambda: None)
        execute(verb, self.final, self.target.journal, report, finish)


def _removal(home: installation.Home, receipt: installation.Receipt, *, everything: bool) -> _Removal:
    """Plan the removal from the content of *home*. Reads only."""
    target = Target(config=Config(home=home), receipt=receipt)
    retained = () if everything else tuple(str(path.relative_to(home.path)) for path in data_and_settings(home))
    state = installation.ReceiptState.PURGING if everything else installation.ReceiptState.RETAINED
    reversible: list[Step] = [
        StopStep(target),
        UnregisterStep(target, receipt),
        RecordStateStep(target, receipt, state, retained),
        SetAsideStep(target, everything),
    ]
    final: list[Step] = [UnlinkCommandStep(target), RemoveProgramsStep(target), EraseStep(target, everything)]
    if everything:
        final.append(RemoveCachesStep(target, receipt))
    return _Removal(
        target=target,
        receipt=receipt,
        everything=everything,
        reversible=tuple(step for step in reversible if not step.done()),
        final=tuple(step for step in final if not step.done()),
        leave=RemoveHomeStep(target, receipt) if everything else None,
        removed=(*(str(path) for path in inventory(home, everything=everything)), *_programs_outside(home)),
        retained=tuple(str(home.path / name) for name in retained),
    )


def _programs_outside(home: installation.Home) -> list[str]:
    """Return the programs that root installed outside of the home."""
    return [str(home.runtime / name) for name in program_names(home)] if home.programs is not None else []


def _removed_remainder(home: installation.Home) -> bool:
    """Remove a home that contains only lock and journal, as left by a purge that was killed in its last step.

    Return whether it was removed.
    """
    names = {path.name for path in home.path.iterdir()} if home.path.is_dir() else {""}
    if names - {home.lock.name, home.journal.name}:
        return False
    home.journal.unlink(missing_ok=True)
    installation.forget_lock(home)
    if home.broker is not None and home.programs is not None:
        home.broker.ask(Request.LEAVE)
        return True
    with suppress(OSError):  # not empty, or the parent directory is not writable
        home.path.rmdir()
    return True


def _outcome(removal: _Removal, *, dry_run: bool) -> Outcome:
    home, receipt, purged = removal.target.home, removal.receipt, removal.everything
    number = len(removal.removed)
    lines: list[Text] = [
        f"Removed {number} {'file or directory' if number == 1 else 'files and directories'} of {home.path}."
    ]
    if dry_run:
        lines = [f"Would {'purge' if purged else 'uninstall'} {home.path}:"]
        lines += [f"  {number}. {step.description}" for number, step in enumerate(removal.steps, 1)]
    lines += [note for step in removal.steps for note in step.notes]
    if receipt.engine == installation.EngineName.SERVER:
        lines.append("The database on your server was not touched.")
    if purged and home.path.exists() and not dry_run:
        lines.append(f"{home.path} was not removed: it contains other files, or the installer did not create it.")
    if not purged:
        names = ", ".join(_top_names(removal.retained, home)) or "nothing"
        lines.append("A later install adopts the retained data.")
        verb = "Would retain" if dry_run else "Retained"
        lines.append(
            f"{verb} in {home.path}: {names}. To remove that as well: " + purge_command(home, receipt.instance_id)
        )
    return Outcome(
        result={
            "home": str(home.path),
            "instance_id": receipt.instance_id,
            "dry_run": dry_run,
            "purged": purged,
            "steps": [{"id": step.id, "description": step.description} for step in removal.steps],
            "removed": list(removal.removed),
            "retained": list(removal.retained),
        },
        lines=tuple(lines),
    )


def purge_command(home: installation.Home, instance_id: str) -> Text:
    """Return how to remove the retained data, also if this process runs from a program copy of *home*, now removed."""
    purge = command("uninstall", f"--purge={instance_id}", home=home.path)
    if not runs_from_copy(home):
        return purge
    if home.broker is None:
        return f"rm -rf {shlex.quote(str(home.path))}"
    # As text, it names the package's own command.
    return "install the package again (pip install mosaic-gateway), then run " + str(purge)


def _top_names(retained: Sequence[str], home: installation.Home) -> list[str]:
    """Return the first path component below the home of each path in *retained*, without duplicates."""
    return list(dict.fromkeys(path.removeprefix(f"{home.path}/").partition("/")[0] for path in retained))
