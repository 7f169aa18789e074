"""The state that the steps of a running upgrade share. What must survive SIGKILL is in the home's upgrade mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mosaic_gateway.cli import Reporter
from mosaic_gateway.errors import InternalError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation import Receipt, UpgradeMark, read_mark, write_mark
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.upgrade.later_writes import WriteBaseline

__all__ = ["Upgrade"]


@dataclass(slots=True)
class Upgrade:
    """A running upgrade: the installation before it, the new package, and the results of the steps so far.

    ``new_program`` is the name of the new program copy, empty until it exists; ``smoke`` the result of the smoke test;
    ``stopped_at`` the monotonic time at which the old gateway was stopped; ``downtime`` in seconds; ``ahead`` the copy
    of the data created while the old gateway served; ``backup`` the backup's name; ``changed_data`` whether the
    database may have been changed; ``written`` the write counts after the migrations.
    """

    target: Target
    receipt: Receipt
    report: Reporter
    source_program: str | None
    new_program: str = ""
    launched: gateway_process.Launched | None = None
    smoke: dict[str, Any] | None = None
    stopped_at: float | None = None
    downtime: float | None = None
    ahead: EarlyCopy | None = None
    backup: str | None = None
    changed_data: bool = False
    written: WriteBaseline | None = None

    @property
    def system_identifier(self) -> int | None:
        """The system identifier of the current cluster."""
        return data_identity_of(self.target.home).system_identifier

    @property
    def mark(self) -> UpgradeMark:
        """The home's upgrade mark. Raises InternalError if there is none."""
        mark = read_mark(self.target.home)
        if mark is None:
            raise InternalError(f"{self.target.home.path} has no upgrade mark, but an upgrade is running")
        return mark

    def update_mark(self, **changes: Any) -> None:
        """Change fields of the home's upgrade mark."""
        write_mark(self.target.home, replace(self.mark, **changes))
