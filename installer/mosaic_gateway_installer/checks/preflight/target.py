"""What the checks before an installation are told."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.engines.pglite.data import has_data
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.finding import NotCheckedError
from mosaic_gateway_installer.checks.host import HostFacts
from mosaic_gateway_installer.receipt import Receipt

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be installed: settings, and receipt of what is there.

    ``host`` is the machine. ``accept_secret``: another secret than the data's is wanted. ``home_fault`` is why
    the home cannot be used; then nothing is known of what is in it.
    """

    config: Config
    receipt: Receipt | None
    home_fault: MosaicError | None
    host: HostFacts
    upgrading: bool = False
    accept_secret: bool = False

    @property
    def uses_wheel(self) -> bool:
        """Whether PostgreSQL's programs are those that come along with the package."""
        return self.config.engine is EngineName.POSTGRES and self.config.postgres_bin is None

    @property
    def has_database(self) -> bool:
        """Whether the home holds a database already."""
        home = self.config.home
        return self.home_fault is None and (cluster_of(home) is not None or has_data(home))

    def need_home(self) -> None:
        """Let a check pass only where the home can be used. Raises NotCheckedError."""
        if self.home_fault is not None:
            raise NotCheckedError("not checked: the home cannot be used")
