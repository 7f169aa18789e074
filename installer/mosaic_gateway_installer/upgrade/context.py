"""An upgrade at work, as its steps share it. What must outlive a kill is in the home's upgrade mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.errors import InternalError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.upgrade_state import UpgradeMark, read_mark, write_mark
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.receipt import Receipt
from mosaic_gateway_installer.step import Context
from mosaic_gateway_installer.upgrade.later_writes import WriteBaseline

__all__ = ["Upgrade"]


@dataclass(slots=True)
class Upgrade:
    """An upgrade at work: the installation before, the package that comes, and what the steps hand on.

    ``target`` is the name of the new snapshot once it is there; ``smoke`` what the new gateway answered, ``ahead`` what
    was copied while the old one served, ``backup`` the backup's name, ``changed_data`` whether the database may not be
    as it was.
    """

    context: Context
    receipt: Receipt
    report: Reporter
    source_program: str | None
    target: str = ""
    launched: gateway_process.Launched | None = None
    smoke: dict[str, Any] | None = None
    stopped_at: float | None = None
    downtime: float | None = None
    ahead: EarlyCopy | None = None
    backup: str | None = None
    changed_data: bool = False
    written: WriteBaseline | None = None

    @property
    def identifier(self) -> int | None:
        """The system identifier of the database's cluster as it is now."""
        return data_identity_of(self.context.home).system_identifier

    @property
    def mark(self) -> UpgradeMark:
        """What the home says of the upgrade."""
        mark = read_mark(self.context.home)
        if mark is None:
            raise InternalError(f"{self.context.home.path} says nothing of the upgrade that is at work")
        return mark

    def note(self, **changes: Any) -> None:
        """Change what the home says of the upgrade."""
        write_mark(self.context.home, replace(self.mark, **changes))
