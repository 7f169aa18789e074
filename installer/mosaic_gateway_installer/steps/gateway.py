"""The schema without a running gateway, or the gateway itself, which brings the schema."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway import __version__
from mosaic_gateway.gateway import control
from mosaic_gateway.gateway.opening import open_database
from mosaic_gateway.gateway.schema import load_bundles, prepare_schema, schema_digest
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway_installer.receipt import read_receipt
from mosaic_gateway_installer.steps.base import Context

__all__ = ["SchemaStep", "StartStep"]


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """Applies the migrations, for an installation that is not to be started."""

    context: Context
    id: str = "schema"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Apply the schema migrations"

    def done(self) -> bool:
        """Return whether an earlier run applied these very migrations."""
        receipt = read_receipt(self.context.home)
        return receipt is not None and receipt.schema == schema_digest(load_bundles())

    def apply(self) -> None:
        """Apply what is pending."""
        with open_database(self.context.config, self.context.account) as conninfo:
            prepare_schema(load_bundles(), conninfo, self.context.config.engine)

    def undo(self) -> None:
        """Nothing: migrations only go forward, and a later run goes on where this one stopped."""


@dataclass(frozen=True, slots=True)
class StartStep:
    """Starts the gateway in the background; it applies the migrations before it listens."""

    context: Context
    id: str = "start"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Start the gateway at {self.context.config.local_url} (applies the schema migrations)"

    def done(self) -> bool:
        """Return whether this version of the gateway runs with the settings as they are now."""
        home = self.context.home
        state = control.state_of(home)
        holder = holder_of(home.gateway_lock)
        if not state.ready or holder is None or state.version != __version__:
            return False
        began = float(holder.facts.get("began", 0))
        return state.url == self.context.config.url and home.config_file.stat().st_mtime < began

    def apply(self) -> None:
        """Start it; one that runs with other settings is stopped first."""
        control.stop(self.context.home)
        control.start(self.context.home)

    def undo(self) -> None:
        """Stop it."""
        control.stop(self.context.home)
