"""What an upgrade consists of, and when there must be none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mosaic_gateway.engines.postgres.major_upgrade import MajorDecision, decide_major
from mosaic_gateway.errors import MosaicError, RefusedError

__all__ = ["UpgradeFacts", "downgrade", "is_needed", "order_of", "refusal", "upgrade_steps"]


class DowngradeError(RefusedError):
    """What is installed is newer than the package that was to replace it."""

    code = "DOWNGRADE"


class MajorVersionError(RefusedError):
    """The data belongs to another major version of PostgreSQL than the package brings."""

    code = "POSTGRES_MAJOR"


class VectorOlderError(RefusedError):
    """The database uses a newer pgvector than the package brings."""

    code = "VECTOR_OLDER"


class NoBackupError(RefusedError):
    """The database is on a server of which no backup can be made from here."""

    code = "NO_BACKUP"


class OthersBreakError(RefusedError):
    """Other gateways serve from the same database, and would break."""

    code = "OTHERS_WOULD_BREAK"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFacts:
    """What is there, and what this package would bring.

    Versions are texts; ``installed_schema`` and ``schema`` are digests (None: never migrated). ``same_program``: the
    home runs this very package already. PostgreSQL's majors and versions are None where the home has no database of
    its own; ``vector`` is None where it could not be asked or is not installed. ``breaking`` names pending migrations
    that gateways of the version before do not bear, ``others`` counts such gateways' sessions on the same database.
    ``pglite``: PGlite's programs are not in the home as this package needs them.
    ``server_major`` is a server's version, ``dump_major`` that of the ``pg_dump`` at hand.
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
    others: int = 0
    pglite: bool = False
    server_major: int | None = None
    dump_major: int | None = None

    @property
    def major(self) -> MajorDecision:
        """What is to be done about PostgreSQL's major version."""
        if self.programs_major is None:
            return MajorDecision.NOTHING
        return decide_major(self.cluster_major, self.programs_major, self.majors)


def order_of(version: str) -> tuple[int, ...]:
    """Return the numbers of *version*, by which two are compared: enough for ours, PostgreSQL's and pgvector's."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def is_needed(facts: UpgradeFacts) -> bool:
    """Return whether anything of the installation is not this package's."""
    if facts.major is MajorDecision.UPGRADE:
        return True
    other_programs = facts.programs is not None and facts.programs != facts.installed_programs
    return not facts.same_program or facts.installed_schema != facts.schema or other_programs


def downgrade(installed: str, version: str, installed_schema: str | None, schema: str) -> MosaicError | None:
    """Return the refusal of an older *version*, whose *schema* is another than the *installed* one's, else None."""
    if order_of(installed) > order_of(version) and installed_schema != schema:
        return DowngradeError(
            f"version {installed} is installed, and {version} does not know its schema",
            hint=f"Install a later one: pip install --upgrade 'mosaic-gateway>={installed}'",
        )
    return None


def refusal(facts: UpgradeFacts, *, backup: bool) -> MosaicError | None:
    """Return why this package must not take over the installation, with or without a *backup*; None where it may."""
    if facts.major in {MajorDecision.REFUSE_OLDER_PROGRAMS, MajorDecision.REFUSE_NO_PROGRAMS}:
        return _major(facts.cluster_major or 0, facts.programs_major or 0)
    vector, offered = facts.vector, facts.offered_vector
    if vector is not None and offered is not None and order_of(vector) > order_of(offered):
        return VectorOlderError(
            f"the database uses pgvector {vector}, the package brings {offered}",
            hint="Install a later version of mosaic-gateway.",
        )
    if backup and facts.server_major is not None and (facts.dump_major or 0) < facts.server_major:
        return NoBackupError(
            f"the server is PostgreSQL {facts.server_major}, of which no pg_dump here can make a backup",
            hint="Make one by its own means, then upgrade with --no-backup; or name newer programs: --postgres-bin at "
            "install.",
        )
    if facts.breaking and facts.others:
        return OthersBreakError(
            f"{facts.others} session(s) of other gateways use this database, which would break them: "
            f"{', '.join(facts.breaking)}",
            hint="Stop them, run the upgrade, and upgrade them as well.",
            details={"migrations": list(facts.breaking), "gateways": facts.others},
        )
    return None


def _major(cluster: int, programs: int) -> MajorVersionError:
    if programs < cluster:
        hint = "Install a version of mosaic-gateway that brings it; nothing was changed."
    else:
        hint = (
            f"The programs of PostgreSQL {cluster} are gone, which the way there needs; nothing was changed. Install "
        )
        hint += "the version of mosaic-gateway that brings them, run its install, then upgrade from there."
    return MajorVersionError(
        f"the data belongs to PostgreSQL {cluster}, and the package brings {programs}",
        hint=hint,
        details={"cluster": cluster, "programs": programs},
    )


def upgrade_steps(
    facts: UpgradeFacts, *, backup: bool, ran: bool, embedded: bool, service: bool = False, ahead: bool = False
) -> tuple[str, ...]:
    """Return the ids of the steps of an upgrade, in their order.

    *backup*: one is made. *ran*: the gateway ran, and does afterwards. *embedded*: the database is the home's own.
    *service*: a service manager runs the gateway, and takes the new one over when it has been tested. *ahead*: the old
    gateway serves now, and most of the data can be copied meanwhile.
    """
    steps = ["program"]
    if backup and embedded and ahead:
        steps.append("copy")
    steps.append("mark")
    if facts.pglite:
        steps.append("runtime")  # fetched before anything stops; the old ones stay beside them
    if ran:
        steps.append("stop")
    # It loads while the data is copied.
    steps.append("launch")
    if backup:
        steps.append("backup")
    if embedded and facts.programs is not None and facts.programs != facts.installed_programs:
        steps.append("runtime")
    if facts.major is MajorDecision.UPGRADE:
        steps.append("major-upgrade")
    steps += ["migrate", "start", "smoke-test", "switch"]
    if service:
        steps.append("service")
    if not ran:
        steps.append("stop-again")
    if backup and embedded:
        steps.append("seal")
    return (*steps, "prune")
