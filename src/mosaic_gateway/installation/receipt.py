"""The receipt: the record of what an installation owns in its home. Only what it lists is ever removed.

Files that root created outside of the home are listed in a record that only root can write
(`mosaic_gateway.installation.machine_record`), because the owner of the home can write the receipt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.fs.record_fields import (
    INSTANCE_ID,
    Field,
    UnreadableRecordError,
    boolean,
    digest,
    entries,
    integer,
    matching,
    member,
    optional,
    path_text,
    relative_path,
    text,
    timestamp,
    version,
)
from mosaic_gateway.fs.record_format import RecordFormat
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.service_record import Service
from mosaic_gateway.process.account import HomeOwnerError, check_owner

__all__ = ["NotInstalledError", "Receipt", "ReceiptState", "installed", "instance_id", "read_receipt", "write_receipt"]

HINT = "Nothing was changed. Restore the file from a backup, or choose another --home."


class NotInstalledError(PreflightError):
    """The home contains no installation, or an incomplete one."""

    code = "NOT_INSTALLED"


class ReceiptState(StrEnum):
    """State of an installation: in progress, complete, uninstalled with its data retained, or being purged."""

    INSTALLING = "installing"
    INSTALLED = "installed"
    RETAINED = "kept"
    PURGING = "purging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one installation owns.

    ``created_at`` is UTC (ISO 8601). ``home_created`` is True if the installer created the home directory;
    ``parents_created`` lists the parent directories that it created, outermost first. ``schema`` is the digest of
    the applied migrations, None before the first. ``retained`` lists what an uninstall left, relative to the home.
    ``system_identifier`` and ``secret_check`` identify data and secret (see `adoption`); they are None in receipts
    of earlier versions. ``engine_reason`` states why ``engine`` was chosen. ``caches`` lists caches outside of the
    home, which other homes also use. ``service`` is the user's own unit, if any; ``service_wanted`` is False after
    ``--no-service``. ``command`` is the link to the home's command outside of the home, if any.
    """

    instance_id: str
    state: ReceiptState
    version: str
    engine: str
    created_at: str
    home_created: bool
    parents_created: tuple[str, ...] = ()
    schema: str | None = None
    retained: tuple[str, ...] = ()
    system_identifier: int | None = None
    secret_check: str | None = None
    engine_reason: str = ""
    caches: tuple[str, ...] = ()
    service: Service | None = None
    service_wanted: bool = True
    command: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


FIELDS = {
    "instance_id": Field(matching(INSTANCE_ID, "16 hexadecimal digits")),
    "state": Field(member(ReceiptState)),
    "version": Field(version),
    "engine": Field(lambda value: str(member(EngineName)(value))),
    "created_at": Field(timestamp),
    "home_created": Field(boolean),
    "parents_created": Field(entries(path_text), ()),
    "schema": Field(optional(digest), None),
    "kept": Field(entries(relative_path), ()),
    "system_identifier": Field(optional(integer), None),
    "secret_check": Field(optional(matching(re.compile(r"[0-9a-f]{32}"), "32 hexadecimal digits")), None),
    "engine_reason": Field(text, ""),
    "caches": Field(entries(path_text), ()),
    "service": Field(optional(lambda value: value), None),
    "service_wanted": Field(boolean, default=True),
    "command": Field(optional(path_text), None),
}


FORMAT = RecordFormat(fields=FIELDS, number_key="receipt", hint=HINT)


def read_receipt(home: Home) -> Receipt | None:
    """Return the receipt of *home*, None if there is none.

    Raises RecordError, `LaterSchemaError`, `HomeOwnerError`, OSError.
    """
    try:
        value = FORMAT.read(home.receipt)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnreadableRecordError as error:
        check_owner(home.path)
        raise HomeOwnerError(error.message, hint=error.hint, details=error.details) from error
    if value["service"] is not None:
        value["service"] = Service.from_dict(value["service"], home.receipt)
    value["retained"] = value.pop("kept")
    return Receipt(**value)


def installed(home: Home) -> Receipt:
    """Return the receipt of *home*, which must exist. Raises NotInstalledError, RecordError, OSError."""
    receipt = read_receipt(home)
    if receipt is None:
        raise NotInstalledError(
            f"there is no installation in {home.path}",
            hint="Run " + command("install") + ", or give the directory of the installation with --home.",
        )
    return receipt


def instance_id(home: Home) -> str:
    """Return the id of the installation in *home*. Raises what `installed` raises."""
    return installed(home).instance_id


def write_receipt(home: Home, receipt: Receipt) -> None:
    """Write *receipt*, with the keys of a later version that it was read with. Raises OSError."""
    value = asdict(receipt)
    value["kept"] = value.pop("retained")
    FORMAT.write(home.receipt, value, indent=2)
