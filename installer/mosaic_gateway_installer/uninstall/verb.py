"""uninstall: the programs go and the data stays; with ``--purge`` and the instance id, all of it goes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter, reporter
from mosaic_gateway.config import Config
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.home_lock import forget_lock, home_locked
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, installed
from mosaic_gateway_installer.recovery import recover
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import UnregisterStep
from mosaic_gateway_installer.step import Context, Step
from mosaic_gateway_installer.step_runner import execute, interruptible
from mosaic_gateway_installer.uninstall.inventory import data_and_settings, inventory
from mosaic_gateway_installer.uninstall.steps import (
    EraseStep,
    RecordStateStep,
    RemoveCachesStep,
    RemoveHomeStep,
    RemoveProgramsStep,
    SetAsideStep,
)

__all__ = ["PurgeNotConfirmedError", "uninstall"]


class PurgeNotConfirmedError(RefusedError):
    """The instance id that was given is not this installation's."""

    code = "PURGE_NOT_CONFIRMED"


def uninstall(home: Home, *, purge: str | None, dry_run: bool) -> Outcome:
    """Remove the installation in *home*; *purge* is the instance id that also gives up the data.

    Raises `NotInstalledError`, `PurgeNotConfirmedError`, BusyError and OSError. What goes is first set aside: until
    all of that has worked, a failure brings it back.
    """
    if purge is not None and not dry_run and _tidied(home):
        return Outcome(result={"home": str(home.path), "purged": True}, lines=(f"Removed {home.path}.",))
    receipt = installed(home)
    if purge is not None and purge != receipt.instance_id:
        raise PurgeNotConfirmedError(
            f"{purge!r} is not the instance id of {home.path}",
            hint=f"Nothing was removed. The id is in {home.receipt} and in mosaic-gateway status.",
        )
    if dry_run:
        removal = _removal(home, receipt, everything=purge is not None)
        return _outcome(removal, dry_run=True)
    with interruptible(), reporter() as report, home_locked(home, "uninstall"):
        recover(home, report, upgrade_too=purge is None)
        removal = _removal(home, installed(home), everything=purge is not None)
        removal.run(report)
    return _outcome(removal, dry_run=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removal:
    """What an uninstall is made of. ``removed`` and ``retained`` are paths, for people and scripts."""

    context: Context
    receipt: Receipt
    everything: bool
    reversible: tuple[Step, ...]
    final: tuple[Step, ...]
    leave: RemoveHomeStep | None
    removed: tuple[str, ...]
    retained: tuple[str, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that runs, in order."""
        return (*self.reversible, *self.final, *([self.leave] if self.leave is not None else []))

    def run(self, report: Reporter) -> None:
        """Do it."""

        def ended() -> None:
            if self.leave is not None:
                report.begin(self.leave.description)
                self.leave.apply()
            else:
                self.context.journal.close()

        verb = "uninstall"
        execute(verb, self.reversible, self.context.journal, report, lambda: None)
        execute(verb, self.final, self.context.journal, report, ended)


def _removal(home: Home, receipt: Receipt, *, everything: bool) -> _Removal:
    """Plan it from what is there. Reads only."""
    context = Context(home=home, config=Config(home=home), account_name=None, new_directories=())
    retained = () if everything else tuple(str(path.relative_to(home.path)) for path in data_and_settings(home))
    state = ReceiptState.PURGING if everything else ReceiptState.RETAINED
    reversible: list[Step] = [
        StopStep(context),
        UnregisterStep(context, receipt),
        RecordStateStep(context, receipt, state, retained),
        SetAsideStep(context, everything),
    ]
    final: list[Step] = [RemoveProgramsStep(context), EraseStep(context, everything)]
    if everything:
        final.append(RemoveCachesStep(context, receipt))
    return _Removal(
        context=context,
        receipt=receipt,
        everything=everything,
        reversible=tuple(step for step in reversible if not step.done()),
        final=tuple(step for step in final if not step.done()),
        leave=RemoveHomeStep(context, receipt) if everything else None,
        removed=(*(str(path) for path in inventory(home, everything=everything)), *_elsewhere(home)),
        retained=tuple(str(home.path / name) for name in retained),
    )


def _elsewhere(home: Home) -> list[str]:
    """Return the programs that root has put in place outside of the home."""
    return [str(home.runtime / name) for name in program_names(home)] if home.programs is not None else []


def _tidied(home: Home) -> bool:
    """Remove a home of which a purge that was killed at its last moment left nothing but the lock."""
    left = {path.name for path in home.path.iterdir()} if home.path.is_dir() else {""}
    if left - {home.lock.name, home.journal.name}:
        return False
    home.journal.unlink(missing_ok=True)
    forget_lock(home)
    if home.broker is not None and home.programs is not None:
        home.broker.ask(Request.LEAVE)
        return True
    with suppress(OSError):  # it was there before us, and is not ours to remove
        home.path.rmdir()
    return True


def _outcome(removal: _Removal, *, dry_run: bool) -> Outcome:
    home, receipt, purged = removal.context.home, removal.receipt, removal.everything
    lines = [f"{'Would remove' if dry_run else 'Removed'} {len(removal.removed)} thing(s) of {home.path}."]
    if dry_run:
        lines = [f"Would {'purge' if purged else 'uninstall'} {home.path}:"]
        lines += [f"  {number}. {step.description}" for number, step in enumerate(removal.steps, 1)]
    lines += [
        line for step in removal.steps if isinstance(step, UnregisterStep | RemoveHomeStep) for line in step.notes
    ]
    if receipt.engine == EngineName.SERVER:
        lines.append("The database on your server was not touched.")
    if purged and home.path.exists() and not dry_run:
        lines.append(f"{home.path} stays: it holds files that are not ours, or was there before.")
    if not purged:
        what = ", ".join(_tops(removal.retained, home)) or "nothing"
        way = f"mosaic-gateway uninstall --home {shlex.quote(str(home.path))} --purge={receipt.instance_id}"
        lines.append("A later install takes up what is kept.")
        lines.append(f"{'Would keep' if dry_run else 'Kept'} in {home.path}: {what}. To remove that as well: {way}")
    return Outcome(
        result={
            "home": str(home.path),
            "instance_id": receipt.instance_id,
            "dry_run": dry_run,
            "purged": purged,
            "steps": [{"id": step.id, "description": step.description} for step in removal.steps],
            "removed": list(removal.removed),
            "kept": list(removal.retained),
        },
        lines=tuple(lines),
    )


def _tops(retained: Sequence[str], home: Home) -> list[str]:
    """Return the names in the home that *retained* lies under, each once."""
    return list(dict.fromkeys(path.removeprefix(f"{home.path}/").partition("/")[0] for path in retained))
