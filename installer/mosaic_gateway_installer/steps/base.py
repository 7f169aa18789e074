"""What a step is, and what steps are told of the installation that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mosaic_gateway.config import Config, Home
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway_installer.journal import Journal

__all__ = ["AccountMissingError", "Context", "Step"]


class AccountMissingError(PreflightError):
    """The account that the home shall belong to is not known to the machine."""

    code = "ACCOUNT_MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The installation as it shall be.

    ``account_name`` is the account that the home and PostgreSQL belong to, None for the user who runs
    the installer; ``make_account`` says that it is ours to make. ``new_directories`` are the home and those
    above it that were not there before, outermost first; none if the home was there. ``engine_reason`` says why
    the home gets the engine that it gets; ``engine_chosen`` whether nobody named one.
    """

    home: Home
    config: Config
    account_name: str | None
    make_account: bool
    new_directories: tuple[Path, ...]
    engine_reason: str = ""
    engine_chosen: bool = False

    @property
    def account(self) -> Account | None:
        """The account to act as; None means ourselves. Raises `AccountMissingError`."""
        if self.account_name is None:
            return None
        account = account_named(self.account_name)
        if account is None:
            raise AccountMissingError(
                f"there is no user {self.account_name} on this machine", hint="Create it, or choose another --run-as."
            )
        return account

    @property
    def home_owner(self) -> Account | None:
        """The account that may write into the home now: ours until it has been handed over."""
        if self.account_name is None:
            return None
        account = account_named(self.account_name)
        if account is None or self.home.path.stat().st_uid != account.uid:
            return None
        return account

    @property
    def journal(self) -> Journal:
        """The home's journal."""
        return Journal(self.home.journal, self.home_owner)


class Step(Protocol):
    """One change. Nothing is remembered between its calls but what is on the machine."""

    @property
    def id(self) -> str:
        """A short stable name, as in the journal and in ``--dry-run --json``."""

    @property
    def description(self) -> str:
        """What the step does, for a person: "Create the database cluster"."""

    def done(self) -> bool:
        """Return whether the change is there already. Reads only; needs no earlier step."""

    def apply(self) -> None:
        """Make the change; also over what a killed attempt left. Raises MosaicError and OSError."""

    def undo(self) -> None:
        """Take back what `apply` of this run made, whole or in part. Raises OSError."""
