"""The receipt: what an installation owns, in its home and elsewhere. Only that is ever removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mosaic_gateway.config import Home
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.files import write_file
from mosaic_gateway.process.account import Account, HomeOwnerError, assume

__all__ = ["SCHEMA", "Receipt", "ReceiptError", "ReceiptState", "read_receipt", "write_receipt"]

#: Version of the file's form.
SCHEMA = 1


class ReceiptError(RefusedError):
    """The receipt cannot be read, so nobody can say what is ours."""

    code = "RECEIPT_UNREADABLE"


class ReceiptState(StrEnum):
    """How far an installation is: under way, complete, removed with its data kept, or given up with its data."""

    INSTALLING = "installing"
    INSTALLED = "installed"
    KEPT = "kept"
    PURGING = "purging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What belongs to one installation.

    ``created_at`` is UTC (ISO 8601). ``home_created`` says whether the home itself was made by us,
    ``parents_created`` which directories above it, outermost first, and ``account_created`` whether the
    service account ``account`` was (None: no account but the user's). ``schema`` is the digest of the
    migrations that are applied, None before the first. ``kept`` names what an uninstall left, below the home.
    ``system_identifier`` and ``secret_check`` are the marks of data and secret (see `adoption`), None where an
    earlier version wrote the receipt. ``service`` is the service manager's unit (`gateway.service.Service`), None
    where there is none; ``service_wanted`` is False after ``--no-service``.
    """

    instance_id: str
    state: ReceiptState
    version: str
    engine: str
    created_at: str
    home_created: bool
    parents_created: tuple[str, ...] = ()
    account: str | None = None
    account_created: bool = False
    schema: str | None = None
    kept: tuple[str, ...] = ()
    system_identifier: int | None = None
    secret_check: str | None = None
    service: Mapping[str, Any] | None = None
    service_wanted: bool = True


def read_receipt(home: Home) -> Receipt | None:
    """Return the receipt of *home*, None where there is none. Raises `ReceiptError`, `HomeOwnerError`."""
    try:
        value: Any = json.loads(home.receipt.read_bytes())
        if value.pop("receipt") != SCHEMA:
            raise ReceiptError(
                f"{home.receipt} was written by a later version",
                hint="Install that version: pip install --upgrade mosaic-gateway",
            )
        lists = {name: tuple(map(str, value.get(name, ()))) for name in ("parents_created", "kept")}
        return Receipt(**{**value, **lists, "state": ReceiptState(value["state"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise HomeOwnerError(
            f"{home.path} is closed to this user", hint="Run the command as its owner or as root."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReceiptError(
            f"{home.receipt} cannot be read: {error}",
            hint="Nothing was changed. Restore the file from a backup, or choose another --home.",
        ) from error


def write_receipt(home: Home, receipt: Receipt, account: Account | None) -> None:
    """Write *receipt* as *account*. Raises OSError."""
    with assume(account):
        write_file(home.receipt, json.dumps({"receipt": SCHEMA, **asdict(receipt)}, indent=2) + "\n")
