"""The steps of an upgrade, and the reasons to refuse one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from mosaic_gateway.engines import postgres
from mosaic_gateway.errors import MosaicError, RefusedError
from mosaic_gateway_installer.step import StepId

__all__ = ["UpgradeFacts", "downgrade", "is_needed", "refusal", "upgrade_steps"]


class DowngradeError(RefusedError):
    """The installed version is newer than this package."""

    code = "DOWNGRADE"


class MajorVersionError(RefusedError):
    """The cluster has another PostgreSQL major version than this package ships, and cannot be upgraded to it."""

    code = "POSTGRES_MAJOR"


class VectorOlderError(RefusedError):
    """The database uses a newer pgvector than this package ships."""

    code = "VECTOR_OLDER"


class NoBackupError(RefusedError):
    """The database server is newer than the available ``pg_dump``, so it cannot be backed up."""

    code = "NO_BACKUP"


class OtherGatewaysIncompatibleError(RefusedError):
    """Other gateways use the same database, and pending migrations are incompatible with them."""

    code = "OTHER_GATEWAYS_INCOMPATIBLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFacts:
    """The versions that are installed, and those that this package ships.

    Versions are texts; ``installed_schema`` and ``schema`` are digests (None: never migrated). ``same_program``: the
    home runs this package already. PostgreSQL's majors and versions are None where the home has no embedded
    PostgreSQL; ``majors`` are those of the programs in the home. ``vector`` is pgvector's version in the database, None
    if it could not be queried or is not installed. ``breaking`` names pending migrations that are incompatible with
    gateways of the previous version, ``other_sessions`` counts the sessions of other gateways on the same database.
    ``pglite_missing``: the PGlite version that this package needs is not in the home.
    ``server_major`` is the major version of a database server, ``dump_major`` that of the available ``pg_dump``.
    """

    installed_version: str
    version: str
    installed_schema: str | None
    schema: str
    same_program: bool
    cluster_major: int | None = None
    programs_major: int | None = None
    majors: tuple[int, ...] = ()
    installed_programs: str | None = None
    programs: str | None = None
    vector: str | None = None
    offered_vector: str | None = None
    breaking: tuple[str, ...] = ()
    other_sessions: int = 0
    pglite_missing: bool = False
    server_major: int | None = None
    dump_major: int | None = None

    @property
    def major(self) -> postgres.MajorDecision:
        """The decision about PostgreSQL's major version."""
        if self.programs_major is None:
            return postgres.MajorDecision.NOTHING
        return postgres.decide_major(self.cluster_major, self.programs_major, self.majors)


def is_needed(facts: UpgradeFacts) -> bool:
    """Return whether program, schema or PostgreSQL of the installation differ from this package's."""
    if facts.major is postgres.MajorDecision.UPGRADE:
        return True
    other_programs = facts.programs is not None and facts.programs != facts.installed_programs
    return not facts.same_program or facts.installed_schema != facts.schema or other_programs


def downgrade(installed: str, version: str, installed_schema: str | None, schema: str) -> MosaicError | None:
    """Return the refusal of an older *version*, whose *schema* is another than the *installed* one's, else None."""
    if Version(installed) > Version(version) and installed_schema != schema:
        return DowngradeError(
            f"version {installed} is installed; version {version} is older and has another schema",
            hint=f"Install a later version: pip install --upgrade 'mosaic-gateway>={installed}'",
        )
    return None


def refusal(facts: UpgradeFacts, *, backup: bool) -> MosaicError | None:
    """Return the error that forbids the upgrade, with or without a *backup*; None if it is allowed."""
    if facts.major in {postgres.MajorDecision.REFUSE_OLDER_PROGRAMS, postgres.MajorDecision.REFUSE_NO_PROGRAMS}:
        return _major_version_error(facts.cluster_major or 0, facts.programs_major or 0)
    vector, offered = facts.vector, facts.offered_vector
    if vector is not None and offered is not None and Version(vector) > Version(offered):
        return VectorOlderError(
            f"the database uses pgvector {vector}, but this package ships {offered}",
            hint="Install a later version of mosaic-gateway.",
        )
    if backup and facts.server_major is not None and (facts.dump_major or 0) < facts.server_major:
        return NoBackupError(
            f"the server is PostgreSQL {facts.server_major}, which is newer than the available pg_dump",
            hint="Back up the database with the server's own tools, then upgrade with --no-backup; or run install with "
            "--postgres-bin DIR for newer PostgreSQL programs.",
        )
    if facts.breaking and facts.other_sessions:
        return OtherGatewaysIncompatibleError(
            f"{facts.other_sessions} session(s) of other gateways use this database, and pending migrations are "
            f"incompatible with them: {', '.join(facts.breaking)}",
            hint="Stop the other gateways, run the upgrade, then upgrade them as well.",
            details={"migrations": list(facts.breaking), "gateways": facts.other_sessions},
        )
    return None


def _major_version_error(cluster: int, programs: int) -> MajorVersionError:
    if programs < cluster:
        hint = f"Nothing was changed. Install a version of mosaic-gateway that ships PostgreSQL {cluster}."
    else:
        hint = (
            f"Nothing was changed. The upgrade needs the programs of PostgreSQL {cluster}, which are missing. Install "
        )
        hint += "the version of mosaic-gateway that ships them, run its install, then upgrade from there."
    return MajorVersionError(
        f"the cluster is PostgreSQL {cluster}, but this package ships PostgreSQL {programs}",
        hint=hint,
        details={"cluster": cluster, "programs": programs},
    )


def upgrade_steps(
    facts: UpgradeFacts, *, backup: bool, ran: bool, embedded: bool, service: bool = False, ahead: bool = False
) -> tuple[StepId, ...]:
    """Return the ids of the steps of an upgrade, in order.

    *backup*: create one. *ran*: the gateway was running, and is to run afterwards. *embedded*: the engine is embedded.
    *service*: a service manager runs the gateway, and starts the new one after the smoke test. *ahead*: copy most of
    the data while the old gateway serves.
    """
    steps = [StepId.PROGRAM]
    if backup and embedded and ahead:
        steps.append(StepId.COPY)
    steps.append(StepId.MARK)
    if facts.pglite_missing:
        steps.append(StepId.RUNTIME)  # installed beside the old version, before the gateway is stopped
    if ran:
        steps.append(StepId.STOP)
    # The new gateway loads its modules while the data is copied.
    steps.append(StepId.LAUNCH)
    if backup:
        steps.append(StepId.BACKUP)
    if embedded and facts.programs is not None and facts.programs != facts.installed_programs:
        steps.append(StepId.RUNTIME)
    if facts.major is postgres.MajorDecision.UPGRADE:
        steps.append(StepId.MAJOR_UPGRADE)
    steps += [StepId.MIGRATE, StepId.START, StepId.SMOKE_TEST, StepId.SWITCH]
    if service:
        steps.append(StepId.SERVICE)
    if not ran:
        steps.append(StepId.STOP_AGAIN)
    if backup and embedded:
        steps.append(StepId.SEAL)
    return (*steps, StepId.PRUNE)
