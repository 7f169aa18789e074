"""The steps that only an upgrade has. What they must know of each other is in the home's upgrade mark."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psycopg

from mosaic_gateway import __version__
from mosaic_gateway.auth import accounts
from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import EngineName
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.runtime import copy_of, find_runtime, install_runtime, wheel_version
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import InternalError, SmokeTestError
from mosaic_gateway.gateway import control
from mosaic_gateway.gateway.opening import open_database
from mosaic_gateway.gateway.program import read_program
from mosaic_gateway.gateway.schema import load_bundles, prepare_schema, schema_digest
from mosaic_gateway.gateway.service import registered_service
from mosaic_gateway.gateway.upgrade_mark import Phase, UpgradeMark, read_mark, remove_mark, write_mark
from mosaic_gateway.process.account import assume
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.adoption import marks_of
from mosaic_gateway_installer.backups.create import cold_backup, create_backup
from mosaic_gateway_installer.backups.place import backups_of
from mosaic_gateway_installer.majors import forget_old_clusters, forget_record
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway_installer.smoke import smoke_test
from mosaic_gateway_installer.snapshot.store import (
    Wanted,
    find_snapshot,
    make_snapshot,
    remove_snapshots,
    snapshots,
    switch_to,
)
from mosaic_gateway_installer.steps.base import Context
from mosaic_gateway_installer.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.steps.service import ServiceStep
from mosaic_gateway_installer.upgrading.last import (
    Counters,
    LastUpgrade,
    forget_last,
    read_counters,
    write_last,
)
from mosaic_gateway_installer.upgrading.plan import order_of
from mosaic_gateway_installer.upgrading.rollback import bring_back_data

__all__ = [
    "BackupStep",
    "LaunchNewStep",
    "MarkStep",
    "MigrateStep",
    "NewMajorStep",
    "ProgramsStep",
    "PruneStep",
    "ResumeServiceStep",
    "SmokeStep",
    "StageStep",
    "StartNewStep",
    "StopAgainStep",
    "StopOldStep",
    "SwitchStep",
    "Upgrade",
]

LOG_LINES = 20


@dataclass(slots=True)
class Upgrade:
    """An upgrade at work: the installation before, the package that comes, and what the steps hand on.

    ``target`` is the name of the new snapshot once it is there; ``smoke`` what the new gateway answered.
    """

    context: Context
    receipt: Receipt
    wanted: Wanted
    report: Reporter
    source_program: str | None
    target: str = ""
    launched: control.Launched | None = None
    smoke: dict[str, Any] | None = None
    stopped_at: float | None = None
    downtime: float | None = None
    backup: str | None = None
    counters: Counters | None = None

    @property
    def identifier(self) -> int | None:
        """The system identifier of the database's cluster as it is now."""
        return marks_of(self.context.home).system_identifier

    @property
    def mark(self) -> UpgradeMark:
        """What the home says of the upgrade."""
        mark = read_mark(self.context.home)
        if mark is None:
            raise InternalError(f"{self.context.home.path} says nothing of the upgrade that is at work")
        return mark

    def note(self, **changes: Any) -> None:
        """Change what the home says of the upgrade."""
        write_mark(self.context.home, replace(self.mark, **changes), self.context.home_owner)


@dataclass(slots=True)
class StageStep:
    """Puts the new program beside the old one, while that serves."""

    upgrade: Upgrade
    id: str = "program"
    _there: tuple[str, ...] | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy version {__version__} of the gateway into {self.upgrade.context.home.runtime}"

    def done(self) -> bool:
        """Return whether it is there."""
        found = find_snapshot(self.upgrade.context.home, self.upgrade.wanted)
        self.upgrade.target = found.name if found is not None else ""
        return found is not None

    def apply(self) -> None:
        """Copy it, and have it on disk: the home must be able to go on with it after a power failure."""
        context = self.upgrade.context
        self._there = tuple(path.name for path in snapshots(context.home))
        made = make_snapshot(context.home, self.upgrade.wanted, context.home_owner, durable=True)
        self.upgrade.target = made.name

    def undo(self) -> None:
        """Remove it."""
        if self._there is not None:
            remove_snapshots(self.upgrade.context.home, keep=self._there)


@dataclass(slots=True)
class MarkStep:
    """Notes in the home that an upgrade is under way, and what was before."""

    upgrade: Upgrade
    id: str = "mark"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Note what is there now, for the way back"

    def done(self) -> bool:
        """Return whether an upgrade to this very program is noted already."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.target_program == self.upgrade.target

    def apply(self) -> None:
        """Note it."""
        upgrade, home = self.upgrade, self.upgrade.context.home
        state = control.state_of(home)
        mark = UpgradeMark(
            phase=Phase.PREPARED,
            source_version=upgrade.receipt.version,
            source_program=upgrade.source_program,
            target_version=__version__,
            target_program=upgrade.target,
            ran=state.running or state.supervisor is not None,
            needs_setup=_asked(state),
        )
        write_mark(home, mark, upgrade.context.home_owner)

    def undo(self) -> None:
        """Note that nothing is under way."""
        remove_mark(self.upgrade.context.home, self.upgrade.context.home_owner)


@dataclass(slots=True)
class StopOldStep:
    """Stops the old gateway; undone, after the rest, it serves again as before."""

    upgrade: Upgrade
    id: str = "stop"
    _stopped: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Stop version {self.upgrade.receipt.version}"

    def done(self) -> bool:
        """Return whether nothing runs."""
        state = control.state_of(self.upgrade.context.home, ask=False)
        return not state.running and state.supervisor is None

    def apply(self) -> None:
        """Stop it."""
        self._stopped = True
        self.upgrade.stopped_at = time.monotonic()
        control.stop(self.upgrade.context.home)

    def undo(self) -> None:
        """Start it again."""
        if self._stopped:
            control.start(self.upgrade.context.home)


@dataclass(slots=True)
class LaunchNewStep:
    """Loads the new gateway while the data is copied; it ends by itself if we do."""

    upgrade: Upgrade
    id: str = "launch"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Load the new gateway, which waits for its database"

    def done(self) -> bool:
        """Return False: one that an earlier run loaded has ended with it."""
        return False

    def apply(self) -> None:
        """Load it."""
        context = self.upgrade.context
        program = read_program(context.home.runtime / self.upgrade.target)
        self.upgrade.launched = control.launch(context.home, program, port=context.config.port, tethered=True)

    def undo(self) -> None:
        """End it."""
        if self.upgrade.launched is not None:
            self.upgrade.launched.close()


@dataclass(slots=True)
class BackupStep:
    """Copies data, secrets and settings, and compares the copy with them."""

    upgrade: Upgrade
    id: str = "backup"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Back up data, secrets and settings into {backups_of(self.upgrade.context.home)}"

    def done(self) -> bool:
        """Return whether there is one of what was before the data was first changed."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.phase is Phase.CHANGING and mark.backup is not None

    def apply(self) -> None:
        """Copy and compare. Raises `DiskFullError`, `BackupFailedError`."""
        upgrade, context = self.upgrade, self.upgrade.context
        self._remove()  # of an earlier run, after which the old gateway may have served again
        home, account, place = context.home, context.home_owner, backups_of(context.home)
        if context.config.engine is EngineName.SERVER:
            made = create_backup(context.config, upgrade.receipt, place, account, upgrade.report)
        else:
            made = cold_backup(home, upgrade.receipt, context.config.engine, place, account, upgrade.report)
        upgrade.note(backup=made.name)

    def undo(self) -> None:
        """Remove it: what it was made for is in its place."""
        self._remove()

    def _remove(self) -> None:
        mark = read_mark(self.upgrade.context.home)
        if mark is None or mark.backup is None:
            return
        self.upgrade.note(backup=None)
        with assume(self.upgrade.context.home_owner):
            shutil.rmtree(backups_of(self.upgrade.context.home) / mark.backup, ignore_errors=True)


@dataclass(slots=True)
class ProgramsStep:
    """Copies the newer minor version of PostgreSQL, which takes over with the next start."""

    upgrade: Upgrade
    id: str = "runtime"
    _made: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy PostgreSQL {wheel_version()} into {self.upgrade.context.home.runtime}"

    def done(self) -> bool:
        """Return whether it is there."""
        context = self.upgrade.context
        return find_runtime(context.home, context.config.postgres_bin).version == wheel_version()

    def apply(self) -> None:
        """Copy it."""
        self._made = True
        context = self.upgrade.context
        install_runtime(context.home, account=context.account, postgres_bin=None)

    def undo(self) -> None:
        """Remove it: the next start takes the newest that is there."""
        if self._made:
            with assume(self.upgrade.context.home_owner):
                shutil.rmtree(copy_of(self.upgrade.context.home, wheel_version()), ignore_errors=True)


@dataclass(slots=True)
class NewMajorStep:
    """Takes the database to the new major version of PostgreSQL, beside the old one; undone, the old is in force."""

    upgrade: Upgrade
    inner: MajorUpgradeStep
    id: str = "major-upgrade"

    @property
    def description(self) -> str:
        """What the step does."""
        return self.inner.description

    def done(self) -> bool:
        """Return False: a run that was killed may have left the programs for it still to come."""
        cluster = cluster_of(self.upgrade.context.home)
        return cluster is not None and major_of(cluster) == int(wheel_version().partition(".")[0])

    def apply(self) -> None:
        """Make the new cluster."""
        self.upgrade.note(phase=Phase.CHANGING)
        self.inner.apply()

    def undo(self) -> None:
        """Remove it."""
        mark = read_mark(self.upgrade.context.home)
        self.inner.undo()
        if mark is not None and mark.phase is Phase.CHANGING:
            self.upgrade.note(phase=Phase.PREPARED)


@dataclass(slots=True)
class MigrateStep:
    """Brings the data to the new version; undone, the backup's data is in its place."""

    upgrade: Upgrade
    id: str = "migrate"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Apply the new schema migrations"

    def done(self) -> bool:
        """Return whether there is nothing to apply."""
        return False

    def apply(self) -> None:
        """Apply them, and let pgvector's objects follow its program."""
        upgrade, config = self.upgrade, self.upgrade.context.config
        upgrade.note(phase=Phase.CHANGING)
        with open_database(config, upgrade.context.account) as conninfo:
            if upgrade.mark.needs_setup is None:
                upgrade.note(needs_setup=_needs_setup(conninfo))
            if config.engine is not EngineName.SERVER:  # there it is the owner's to decide
                _update_vector(conninfo)
            prepare_schema(load_bundles(), conninfo, config.engine)
            if config.engine is not EngineName.SERVER:
                with suppress(psycopg.Error):  # then nobody can say later what has been written since
                    upgrade.counters = read_counters(conninfo)

    def undo(self) -> None:
        """Bring back data, secrets and settings."""
        upgrade, context = self.upgrade, self.upgrade.context
        mark = read_mark(context.home)
        if mark is None or mark.phase not in {Phase.CHANGING, Phase.RESTORING}:
            return
        if context.config.engine is not EngineName.SERVER:
            bring_back_data(context.home, mark, context.home_owner)
        upgrade.note(
            phase=Phase.PREPARED, backup=None if context.config.engine is not EngineName.SERVER else mark.backup
        )


@dataclass(slots=True)
class StartNewStep:
    """Lets the new gateway start. It ends when the upgrade does, until that is complete."""

    upgrade: Upgrade
    id: str = "start"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Start version {__version__} at {self.upgrade.context.config.local_url}"

    def done(self) -> bool:
        """Return False: one that an earlier run started has ended with it."""
        return False

    def apply(self) -> None:
        """Let it start, and wait until it accepts requests."""
        upgrade = self.upgrade
        if upgrade.launched is None:
            raise InternalError("the gateway was to be started before it was loaded")
        upgrade.note(phase=Phase.CHANGING)
        upgrade.launched.go()
        if upgrade.stopped_at is not None:
            upgrade.downtime = time.monotonic() - upgrade.stopped_at

    def undo(self) -> None:
        """Stop it."""
        control.stop(self.upgrade.context.home)


@dataclass(slots=True)
class SmokeStep:
    """Asks the new gateway as a stranger would, and expects what the old one would have answered."""

    upgrade: Upgrade
    id: str = "smoke-test"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Test the new gateway over HTTP"

    def done(self) -> bool:
        """Return False: it is asked each time."""
        return False

    def apply(self) -> None:
        """Ask it. Raises `SmokeTestError` with the end of its log."""
        context, mark = self.upgrade.context, self.upgrade.mark
        url = context.config.local_url
        try:
            _check_version(url)
            # Where an admin was missing, somebody may have been made one meanwhile; an admin never vanishes.
            self.upgrade.smoke = smoke_test(url, needs_setup=False if mark.needs_setup is False else None)
        except SmokeTestError as error:
            tail = "\n".join(tail_of(context.home.gateway_log, LOG_LINES))
            raise SmokeTestError(
                f"{error.message}\nThe end of the log:\n{tail}", hint=error.hint, details=error.details
            ) from error

    def undo(self) -> None:
        """Do nothing: questions change nothing."""


@dataclass(slots=True)
class SwitchStep:
    """Makes the new version the one that is in force."""

    upgrade: Upgrade
    id: str = "switch"
    _begun: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Make version {__version__} the one in force"

    def done(self) -> bool:
        """Return whether it is."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.phase is Phase.DONE

    def apply(self) -> None:
        """Switch program and receipt; from then on the gateway stays, whatever becomes of us."""
        upgrade, context = self.upgrade, self.upgrade.context
        self._begun = True
        switch_to(context.home, upgrade.target, context.home_owner)
        write_last(context.home, _last(upgrade), context.home_owner)
        write_receipt(context.home, _after(upgrade), context.home_owner)
        forget_record(context.home, context.home_owner)
        upgrade.note(phase=Phase.DONE)
        upgrade.backup = upgrade.mark.backup
        if upgrade.launched is not None:
            upgrade.launched.untie()

    def undo(self) -> None:
        """Switch back."""
        if not self._begun:
            return
        upgrade, context = self.upgrade, self.upgrade.context
        upgrade.note(phase=Phase.CHANGING)
        forget_last(context.home, context.home_owner)
        write_receipt(context.home, upgrade.receipt, context.home_owner)
        switch_to(context.home, upgrade.source_program, context.home_owner)


@dataclass(slots=True)
class ResumeServiceStep:
    """Lets the service manager run the new gateway, by a unit as the new version writes it."""

    upgrade: Upgrade
    id: str = "service"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Hand the new gateway over to the service manager"

    def done(self) -> bool:
        """Return False: what has been tested runs without it."""
        return False

    def apply(self) -> None:
        """Stop what was tested, bring the unit up to date, and have it started, if it ran before."""
        context = self.upgrade.context
        service = registered_service(context.home)
        if service is None:
            return
        control.stop(context.home)
        unit = ServiceStep(context, service.manager)
        if not unit.done():
            unit.apply()
        if self.upgrade.mark.ran:
            control.start(context.home)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class StopAgainStep:
    """Stops the new gateway, where none ran before."""

    upgrade: Upgrade
    id: str = "stop-again"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Stop the gateway, which did not run before"

    def done(self) -> bool:
        """Return False: by then one runs."""
        return False

    def apply(self) -> None:
        """Stop it."""
        control.stop(self.upgrade.context.home)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class PruneStep:
    """Removes programs that are neither in use nor the ones to go back to, and says that the upgrade has ended."""

    upgrade: Upgrade
    id: str = "prune"
    removed: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        """What the step does."""
        return "Remove programs that are older than the one to go back to"

    def done(self) -> bool:
        """Return False: there is always the mark to remove."""
        return False

    def apply(self) -> None:
        """Remove them."""
        upgrade, context = self.upgrade, self.upgrade.context
        remove_mark(context.home, context.home_owner)
        if upgrade.receipt.system_identifier == upgrade.identifier:  # there is one step back, not two
            self.removed += forget_old_clusters(context.home, context.home_owner)
        keep = {name for name in (upgrade.target, upgrade.source_program) if name}
        self.removed += remove_snapshots(context.home, keep=keep)
        with assume(context.home_owner):
            for path in _old_programs(context.home.runtime):
                shutil.rmtree(path, ignore_errors=True)
                self.removed.append(path.name)

    def undo(self) -> None:
        """Do nothing: what is gone is gone, and nobody needs it."""


def _last(upgrade: Upgrade) -> LastUpgrade:
    return LastUpgrade(
        source_version=upgrade.receipt.version,
        source_program=upgrade.source_program,
        source_schema=upgrade.receipt.schema,
        target_version=__version__,
        backup=upgrade.mark.backup,
        counters=upgrade.counters,
    )


def _after(upgrade: Upgrade) -> Receipt:
    home = upgrade.context.home
    marks = marks_of(home, upgrade.context.config.auth_secret)
    return replace(
        upgrade.receipt,
        state=ReceiptState.INSTALLED,
        version=__version__,
        schema=schema_digest(load_bundles()),
        system_identifier=marks.system_identifier,
        secret_check=marks.secret_check,
    )


def _asked(state: control.GatewayState) -> bool | None:
    """Return whether the running gateway wants a first admin, None where it says nothing."""
    from mosaic_gateway.gateway.asking import NoAnswerError, ask

    if state.local_url is None:
        return None
    with suppress(NoAnswerError):
        status, body = ask(state.local_url, "/api/bootstrap/status")
        if status == HTTPStatus.OK and isinstance(body, dict) and isinstance(body.get("needsSetup"), bool):
            return bool(body["needsSetup"])
    return None


def _needs_setup(conninfo: str) -> bool | None:
    with suppress(psycopg.Error):  # a schema so old that it has no admins
        return accounts.needs_setup(conninfo)
    return None


def _update_vector(conninfo: str) -> None:
    with closing(connect(conninfo, application_name="mosaic-gateway upgrade")) as connection:
        row = connection.execute(
            "SELECT installed_version <> default_version FROM pg_available_extensions"
            " WHERE name = 'vector' AND installed_version IS NOT NULL"
        ).fetchone()
        if row is not None and row[0]:
            connection.execute("ALTER EXTENSION vector UPDATE")


def _check_version(url: str) -> None:
    """Hear from whoever answers which version it is. Raises `SmokeTestError`."""
    from mosaic_gateway.gateway.asking import NoAnswerError, ask

    try:
        status, body = ask(url, "/readyz")
    except NoAnswerError as error:
        raise SmokeTestError(error.message, hint=error.hint) from error
    version = body.get("version") if isinstance(body, dict) else None
    if status != HTTPStatus.OK or version != __version__:
        raise SmokeTestError(
            f"GET {url}/readyz: expected 200 from version {__version__}, got {status} {body}",
            hint="Look at the log: mosaic-gateway logs",
        )


def _old_programs(runtime: Path) -> Collection[Path]:
    """Return PostgreSQL's programs but for the newest two of each major version."""
    found: dict[int, list[Path]] = {}
    for path in runtime.glob("postgresql-*"):
        order = order_of(path.name.removeprefix("postgresql-"))
        if order:
            found.setdefault(order[0], []).append(path)
    kept = 2
    return [
        path
        for paths in found.values()
        for path in sorted(paths, key=lambda path: order_of(path.name.removeprefix("postgresql-")))[:-kept]
    ]
