"""uninstall: the programs go and the data stays; with ``--purge`` and the instance id, all of it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter, reporter
from mosaic_gateway.config import EngineName, Home, NotInstalledError, process_environment, runtime_directory
from mosaic_gateway.engines.pglite.lock import at_rest
from mosaic_gateway.engines.pglite.template import remove_made
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.engines.postgres.lock import EngineLock
from mosaic_gateway.engines.postgres.postmaster import end_processes, processes_of
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway import control
from mosaic_gateway.process.account import account_named, owner_of
from mosaic_gateway_installer.holding import forget_lock, holding
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.steps.home import remove_account, torn_files

__all__ = ["PurgeNotConfirmedError", "installed", "uninstall"]


class PurgeNotConfirmedError(RefusedError):
    """The instance id that was given is not this installation's."""

    code = "PURGE_NOT_CONFIRMED"


def installed(home: Home) -> Receipt:
    """Return the receipt of *home*. Raises `NotInstalledError`."""
    receipt = read_receipt(home)
    if receipt is None:
        raise NotInstalledError(
            f"there is no installation in {home.path}", hint="Name the right place with --home. Nothing was changed."
        )
    return receipt


def uninstall(home: Home, *, purge: str | None, dry_run: bool) -> Outcome:
    """Remove the installation in *home*; *purge* is the instance id that also gives up the data.

    Raises `NotInstalledError`, `PurgeNotConfirmedError`, BusyError and OSError.
    """
    receipt = installed(home)
    if purge is not None and purge != receipt.instance_id:
        raise PurgeNotConfirmedError(
            f"{purge!r} is not the instance id of {home.path}",
            hint=f"Nothing was removed. The id is in {home.receipt} and in mosaic-gateway status.",
        )
    removed = _removed(home, everything=purge is not None)
    if dry_run:
        return _outcome(home, receipt, removed, purged=purge is not None, dry_run=True)
    with reporter() as report, holding(home, "uninstall", owner_of(home.path)):
        report.begin("Stopping the gateway")
        control.stop(home)
        report.done("The gateway is stopped")
        with _database_at_rest(home):
            sockets = outside_directories(home, runtime_directory(process_environment()))
            _remove([*sockets, *removed], report, spare={home.receipt})
        if purge is None:
            write_receipt(home, replace(receipt, state=ReceiptState.KEPT), owner_of(home.path))
        else:
            _purge(home, receipt, report)
    return _outcome(home, receipt, removed, purged=purge is not None, dry_run=False)


@contextmanager
def _database_at_rest(home: Home) -> Iterator[None]:
    """Keep everybody from the home's database inside the block. Raises `EngineBusyError`."""
    if not home.run.is_dir():  # then nobody can run it
        yield
        return
    lock = EngineLock(home)
    lock.acquire(owner_of(home.path))
    try:
        cluster = cluster_of(home)
        if cluster is not None:  # what a dead gateway may have left
            end_processes(cluster, processes_of(cluster), None)
        with at_rest(home, owner_of(home.path)):
            yield
    finally:
        lock.release()


def _removed(home: Home, *, everything: bool) -> list[Path]:
    """Return what of the home would go, of what is there. What is not ours is never in it."""
    paths = [home.runtime, home.run, home.logs, *torn_files(home)]
    if everything:
        paths += [home.data, home.secrets, home.config_file, home.journal, home.receipt]
    return [path for path in paths if path.exists()]


def _remove(paths: Sequence[Path], report: Reporter, *, spare: Collection[Path] = ()) -> None:
    for path in paths:
        if path in spare:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        report.done(f"Removed {path}")


def _purge(home: Home, receipt: Receipt, report: Reporter) -> None:
    """Remove what is ours beside the home's contents; the receipt last, so that a killed purge can be run again."""
    for path in remove_made([Path(name) for name in receipt.caches], owner_of(home.path)):
        report.done(f"Removed {path}")
    if receipt.account_created and receipt.account is not None and not _is_used(receipt.account):
        os.chown(home.path, 0, 0)
        remove_account(receipt.account)
        report.done(f"Removed the service account {receipt.account}")
    _remove([home.receipt], report)
    forget_lock(home)
    if receipt.home_created:
        for directory in (home.path, *map(Path, reversed(receipt.parents_created))):
            with suppress(OSError):  # something that is not ours lies in it
                directory.rmdir()


def _is_used(name: str) -> bool:
    """Return whether a process still runs as the account: another home may belong to it."""
    import psutil

    account = account_named(name)
    if account is None:
        return False
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == account.uid:
                return True
    return False


def _outcome(home: Home, receipt: Receipt, removed: list[Path], *, purged: bool, dry_run: bool) -> Outcome:
    kept = [] if purged else [path for path in (home.data, home.secrets, home.config_file) if path.exists()]
    verb = "Would remove" if dry_run else "Removed"
    lines = [f"{verb}: {', '.join(path.name for path in removed) or 'nothing'}."]
    if receipt.engine == EngineName.SERVER:
        lines.append("The database on your server was not touched.")
    if purged and home.path.exists() and not dry_run:
        lines.append(f"{home.path} stays: it holds files that are not ours, or was there before.")
    if not purged:
        lines += [
            f"{'Would keep' if dry_run else 'Kept'}: {', '.join(str(path) for path in kept)}",
            "A later install takes it up again. To give up the data as well:",
            f"  mosaic-gateway uninstall --home {home.path} --purge={receipt.instance_id}",
        ]
    return Outcome(
        result={
            "home": str(home.path),
            "instance_id": receipt.instance_id,
            "dry_run": dry_run,
            "purged": purged,
            "removed": [str(path) for path in removed],
            "kept": [str(path) for path in kept],
        },
        lines=tuple(lines),
    )
