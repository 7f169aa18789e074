"""May an install take up the data that is there? Told by marks that the receipt keeps of data and secret.

The marks: the cluster's system identifier, and a keyed hash that only the right secret gives. Receipts of
earlier versions have none; then only what the files themselves say is judged. All of it reads only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway import __version__
from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines.base import ForeignClusterError
from mosaic_gateway.engines.pglite.data import check_major, data_directory, has_data
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of, system_identifier
from mosaic_gateway.engines.postgres.major_upgrade import MajorDecision
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.record_fields import read_content
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.receipt import Receipt
from mosaic_gateway_installer.upgrade.major_version import decision_for, programs_major, read_record

__all__ = ["DataIdentity", "SchemaNewerError", "SecretMismatchError", "check_adoption", "data_identity_of"]

PURPOSE = b"mosaic-gateway: is this the secret of the data"
#: What every cluster of PostgreSQL has; without one of them the server would not start, or start on rubbish.
NEEDED = (
    "base",
    "global",
    "pg_wal",
    "pg_xact",
    "pg_multixact",
    "pg_tblspc",
    "global/pg_filenode.map",
    "base/1/PG_VERSION",
)


class SecretMismatchError(RefusedError):
    """The secret is another than the one that the data was used with."""

    code = "SECRET_MISMATCH"


class SchemaNewerError(RefusedError):
    """The data was used by a later version, whose schema this one does not know."""

    code = "SCHEMA_NEWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIdentity:
    """By what a home's data and secret are known again; None where there is none."""

    system_identifier: int | None
    secret_check: str | None


def data_identity_of(home: Home, auth_secret: Secret | None = None) -> DataIdentity:
    """Return the marks of what is in *home*; *auth_secret* counts instead of the home's file.

    Raises `ForeignClusterError`, RecordError, OSError.
    """
    database = _database_of(home)
    return DataIdentity(
        system_identifier=system_identifier(database) if database is not None else None,
        secret_check=_check_value(home, auth_secret),
    )


def check_adoption(config: Config, receipt: Receipt, schema: str) -> None:
    """Refuse data that does not belong to *receipt*, or is not whole; *schema* is the digest of our own migrations.

    Raises `ForeignClusterError`, `SecretMismatchError`, `SchemaNewerError`, RecordError.
    """
    if config.engine is not EngineName.SERVER:
        _check_cluster(config.home, receipt)
        _check_major(config)
    known = receipt.secret_check
    if known is not None and _check_value(config.home, config.auth_secret) not in {None, known}:
        source = "BETTER_AUTH_SECRET" if config.auth_secret is not None else str(config.home.auth_secret)
        raise SecretMismatchError(
            f"the secret from {source} is not the one that the data of {config.home.path} was used with",
            hint="Restore the right one from a backup. With another every session and link would end; if that is what "
            "you want, say so: --accept-secret.",
        )
    if receipt.schema not in {None, schema} and _order(receipt.version) > _order(__version__):
        raise SchemaNewerError(
            f"{config.home.path} was used by mosaic-gateway {receipt.version}; {__version__} does not know its schema",
            hint=f"Install that version or a later one: pip install 'mosaic-gateway>={receipt.version}'",
        )


def _database_of(home: Home) -> Path | None:
    return data_directory(home) if has_data(home) else cluster_of(home)


def _check_cluster(home: Home, receipt: Receipt) -> None:
    cluster = _database_of(home)
    if cluster is None:
        return
    if has_data(home):
        check_major(cluster)  # PGlite opens no other, and says not why
    else:
        major_of(cluster)
    missing = [name for name in NEEDED if not (cluster / name).exists()]
    if missing:
        raise ForeignClusterError(
            f"{cluster} is damaged: it has no {', '.join(missing)}",
            hint="Nothing was changed. Put a backup in its place: mosaic-gateway backup restore NAME",
        )
    found, record = system_identifier(cluster), read_record(home)
    known = {None, found}
    if record is not None and record.after == found:  # an upgrade made it, and was killed before the receipt said so
        known.add(record.before)
    if receipt.system_identifier not in known:
        raise ForeignClusterError(
            f"{cluster} is another cluster (system identifier {found}) than the one of this installation "
            f"({receipt.system_identifier})",
            hint="Nothing was changed. Put the right one back, or choose another --home.",
        )


def _check_major(config: Config) -> None:
    cluster = cluster_of(config.home)
    decision = decision_for(config)
    if cluster is None or decision not in {MajorDecision.REFUSE_OLDER_PROGRAMS, MajorDecision.REFUSE_NO_PROGRAMS}:
        return
    major, programs = major_of(cluster), programs_major(config)
    if decision is MajorDecision.REFUSE_OLDER_PROGRAMS:
        raise ForeignClusterError(
            f"{cluster} was made by PostgreSQL {major}; the programs here are of version {programs}",
            hint="Nothing was changed. Install the later version of mosaic-gateway that made it, or give "
            f"--postgres-bin with a PostgreSQL {major}.",
        )
    raise ForeignClusterError(
        f"{cluster} is of PostgreSQL {major}; to take it to {programs} the programs of {major} are needed, and "
        f"{config.home.runtime} has none",
        hint=f"Nothing was changed. Install the version of mosaic-gateway that brings PostgreSQL {major}, run its "
        "install, then upgrade from there.",
    )


def _check_value(home: Home, auth_secret: Secret | None) -> str | None:
    try:
        value = auth_secret.reveal() if auth_secret is not None else _content(home).decode().strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    return hmac.new(value.encode(), PURPOSE, hashlib.sha256).hexdigest()[:32] if value else None


def _content(home: Home) -> bytes:
    hint = "Restore it from a backup. A new one would end every session; install makes one only for a new home."
    return read_content(home.auth_secret, hint=hint)


def _order(version: str) -> tuple[int, ...]:
    """Return the numbers that *version* begins with: enough to tell which of two is later."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
