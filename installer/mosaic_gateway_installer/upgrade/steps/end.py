"""The last steps of an upgrade: the new version is started, tested, and put in force."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from mosaic_gateway import __version__
from mosaic_gateway.errors import InternalError, SmokeTestError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.upgrade_state import Phase, read_mark, remove_mark
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.backup.creation import seal_backup
from mosaic_gateway_installer.backup.disk_space import full_disk_named
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.program_copy.store import snapshots
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import service_step
from mosaic_gateway_installer.upgrade.context import Upgrade
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade, forget_last, write_last
from mosaic_gateway_installer.upgrade.major_version import forget_old_clusters, forget_record
from mosaic_gateway_installer.upgrade.plan import order_of
from mosaic_gateway_installer.upgrade.unused_pglite import unused_pglite

__all__ = ["PruneStep", "ResumeServiceStep", "SealStep", "SmokeStep", "StartNewStep", "StopAgainStep", "SwitchStep"]

LOG_LINES = 20


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
        """Let it start, and wait until it accepts requests. Raises `DiskFullError`."""
        upgrade = self.upgrade
        if upgrade.launched is None:
            raise InternalError("the gateway was to be started before it was loaded")
        upgrade.note(phase=Phase.CHANGING)
        with full_disk_named(upgrade.context.home.path, f"Starting version {__version__}"):
            upgrade.launched.go()
        if upgrade.stopped_at is not None:
            upgrade.downtime = time.monotonic() - upgrade.stopped_at

    def undo(self) -> None:
        """Stop it."""
        gateway_process.stop(self.upgrade.context.home)


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
        programs_of(context.home).switch(upgrade.target)
        write_last(context.home, _last(upgrade))
        write_receipt(context.home, _after(upgrade))
        forget_record(context.home)
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
        forget_last(context.home)
        write_receipt(context.home, upgrade.receipt)
        programs_of(context.home).switch(upgrade.source_program)


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
        gateway_process.stop(context.home)
        unit = service_step(context, service.manager)
        if not unit.done():
            unit.apply()
        if self.upgrade.mark.ran:
            gateway_process.start(context.home)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class SealStep:
    """Notes the hash of every file of the backup, which took too long while nobody was served."""

    upgrade: Upgrade
    id: str = "seal"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Note the hash of every file of the backup"

    def done(self) -> bool:
        """Return False: the backup of this upgrade has none."""
        return False

    def apply(self) -> None:
        """Read them all, and write the manifest anew."""
        context, name = self.upgrade.context, self.upgrade.mark.backup
        if name is not None and context.config.engine is not EngineName.SERVER:
            seal_backup(backups_of(context.home) / name)

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
        gateway_process.stop(self.upgrade.context.home)

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
        remove_mark(context.home)
        if upgrade.receipt.system_identifier == upgrade.identifier:  # there is one step back, not two
            self.removed += forget_old_clusters(context.home)
        keep = {name for name in (upgrade.target, upgrade.source_program) if name}
        unused = [path.name for path in snapshots(context.home) if path.name not in keep]
        self.removed += programs_of(context.home).remove([*unused, *_old_programs(program_names(context.home))])
        if context.config.engine is EngineName.PGLITE:  # asked of the snapshots that are left
            self.removed += programs_of(context.home).remove(unused_pglite(context.home))

    def undo(self) -> None:
        """Do nothing: what is gone is gone, and nobody needs it."""


def _last(upgrade: Upgrade) -> LastUpgrade:
    return LastUpgrade(
        source_version=upgrade.receipt.version,
        source_program=upgrade.source_program,
        source_schema=upgrade.receipt.schema,
        target_version=__version__,
        backup=upgrade.mark.backup,
        written=upgrade.written,
    )


def _after(upgrade: Upgrade) -> Receipt:
    home = upgrade.context.home
    marks = data_identity_of(home, upgrade.context.config.auth_secret)
    return replace(
        upgrade.receipt,
        state=ReceiptState.INSTALLED,
        version=__version__,
        schema=schema_digest(load_bundles()),
        system_identifier=marks.system_identifier,
        secret_check=marks.secret_check,
    )


def _check_version(url: str) -> None:
    """Hear from whoever answers which version it is. Raises `SmokeTestError`."""
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask

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


def _old_programs(names: Collection[str]) -> list[str]:
    """Return those of *names* that are PostgreSQL's programs, but for the newest two of each major version. Pure."""
    found: dict[int, list[tuple[tuple[int, ...], str]]] = {}
    for name in names:
        order = order_of(name.removeprefix("postgresql-"))
        if name.startswith("postgresql-") and order:
            found.setdefault(order[0], []).append((order, name))
    retained = 2
    return [name for versions in found.values() for _, name in sorted(versions)[:-retained]]
