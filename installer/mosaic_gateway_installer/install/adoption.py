"""Checks whether an install may adopt existing data, by comparing data and secret with the receipt.

The receipt contains the cluster's system identifier and an HMAC keyed with the secret. Receipts of earlier versions
contain neither; then only the files themselves are checked. Nothing is written.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from mosaic_gateway import __version__
from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines import ForeignClusterError, pglite, postgres
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.record_fields import read_content
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home, Receipt
from mosaic_gateway_installer.upgrade.major_version import decision_for, programs_major, read_record

__all__ = ["DataIdentity", "SchemaNewerError", "SecretMismatchError", "check_adoption", "data_identity_of"]

PURPOSE = b"mosaic-gateway: is this the secret of the data"
#: Files that every PostgreSQL cluster has; without one of them the server fails to start or reads invalid data.
REQUIRED = (
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
    """The secret differs from the one that the data was used with."""

    code = "SECRET_MISMATCH"


class SchemaNewerError(RefusedError):
    """The data was used by a later version, whose schema this one does not know."""

    code = "SCHEMA_NEWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIdentity:
    """Identifies the data and the secret of a home; fields are None if there is no data or no secret."""

    system_identifier: int | None
    secret_check: str | None


def data_identity_of(home: Home, auth_secret: Secret | None = None) -> DataIdentity:
    """Return the identity of data and secret in *home*; *auth_secret*, if given, replaces the home's file.

    Raises `ForeignClusterError`, RecordError, OSError.
    """
    database = _database_of(home)
    return DataIdentity(
        system_identifier=postgres.system_identifier(database) if database is not None else None,
        secret_check=_check_value(home, auth_secret),
    )


def check_adoption(config: Config, receipt: Receipt, schema: str) -> None:
    """Refuse data that does not match *receipt* or is incomplete; *schema* is the digest of this version's migrations.

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
            hint="Restore the previous secret from a backup. A different secret ends every session and invalidates "
            "every link; to accept that, add --accept-secret.",
        )
    if receipt.schema not in {None, schema} and Version(receipt.version) > Version(__version__):
        raise SchemaNewerError(
            f"{config.home.path} was used by mosaic-gateway {receipt.version}; {__version__} does not know its schema",
            hint=f"Install that version or a later one: pip install 'mosaic-gateway>={receipt.version}'",
        )


def _database_of(home: Home) -> Path | None:
    return pglite.data_directory(home) if pglite.has_data(home) else postgres.cluster_of(home)


def _check_cluster(home: Home, receipt: Receipt) -> None:
    cluster = _database_of(home)
    if cluster is None:
        return
    if pglite.has_data(home):
        pglite.check_major(cluster)  # PGlite fails on another major version without a reason
    else:
        postgres.major_of(cluster)
    missing = [name for name in REQUIRED if not (cluster / name).exists()]
    if missing:
        raise ForeignClusterError(
            f"{cluster} is damaged: it has no {', '.join(missing)}",
            hint="Nothing was changed. Restore a backup: " + command("backup restore", "NAME"),
        )
    identifier, record = postgres.system_identifier(cluster), read_record(home)
    accepted = {None, identifier}
    if record is not None and record.after == identifier:  # created by an upgrade that was killed before it updated
        accepted.add(record.before)  # the receipt
    if receipt.system_identifier not in accepted:
        raise ForeignClusterError(
            f"{cluster} has system identifier {identifier}, but the cluster of this installation has "
            f"{receipt.system_identifier}",
            hint="Nothing was changed. Restore the cluster of this installation, or choose another --home.",
        )


def _check_major(config: Config) -> None:
    cluster = postgres.cluster_of(config.home)
    decision = decision_for(config)
    if cluster is None or decision not in {
        postgres.MajorDecision.REFUSE_OLDER_PROGRAMS,
        postgres.MajorDecision.REFUSE_NO_PROGRAMS,
    }:
        return
    major, programs = postgres.major_of(cluster), programs_major(config)
    if decision is postgres.MajorDecision.REFUSE_OLDER_PROGRAMS:
        raise ForeignClusterError(
            f"{cluster} was created by PostgreSQL {major}, but the installed programs are version {programs}",
            hint="Nothing was changed. Install the later version of mosaic-gateway that created it, or give "
            f"--postgres-bin with a PostgreSQL {major}.",
        )
    raise ForeignClusterError(
        f"{cluster} was created by PostgreSQL {major}; an upgrade to {programs} needs the programs of {major}, which "
        f"are not in {config.home.runtime}",
        hint=f"Nothing was changed. Install the version of mosaic-gateway that includes PostgreSQL {major}, run its "
        "install, then upgrade.",
    )


def _check_value(home: Home, auth_secret: Secret | None) -> str | None:
    try:
        value = auth_secret.reveal() if auth_secret is not None else _content(home).decode().strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    return hmac.new(value.encode(), PURPOSE, hashlib.sha256).hexdigest()[:32] if value else None


def _content(home: Home) -> bytes:
    hint = "Restore it from a backup. A new secret would end every session; install creates one only for a new home."
    return read_content(home.auth_secret, hint=hint)
