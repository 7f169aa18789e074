"""A backup in progress: its parts are copied and compared, and the manifest is written last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.cli import Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines import postgres
from mosaic_gateway.installation import EngineName, Home, Receipt
from mosaic_gateway_installer.backup import contents
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy, bring_up_to_date
from mosaic_gateway_installer.backup.dump import dump_database
from mosaic_gateway_installer.backup.manifest import DUMP, BackupKind, Manifest, write_manifest
from mosaic_gateway_installer.backup.online_copy import BackupFailedError, OnlineFacts, copy_running_cluster
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, compare_trees, hash_files
from mosaic_gateway_installer.backup.tree_copy import Skip, copy_tree, report_progress

__all__ = ["NewBackup"]


@dataclass(slots=True)
class NewBackup:
    """A backup in progress, in the temporary directory *stage*."""

    home: Home
    engine: EngineName
    receipt: Receipt
    target: Path
    stage: Path
    ahead: EarlyCopy | None = None

    @property
    def data(self) -> Path:
        """The data that is backed up. Raises ClusterMissingError."""
        return contents.require_data(self.home, self.engine)

    def copy_online(self, conninfo: str, report: Reporter) -> OnlineFacts:
        """Copy the cluster that runs at *conninfo*."""
        report.begin("Copying the running database")
        cluster = self.data
        return copy_running_cluster(
            cluster, self.stage / "data" / cluster.name, conninfo, progress=report_progress(report)
        )

    def copy_cold(self, report: Reporter) -> None:
        """Copy the data of the stopped database, or use the copy created ahead."""
        data = self.data
        if self.ahead is not None:
            self.ahead.copy.rename(self._staged_path(data))
            return
        report.begin("Copying the data")
        copy_tree(data, self._staged_path(data), skip=contents.is_excluded, progress=report_progress(report))

    def dump(self, config: Config) -> OnlineFacts:
        """Dump the server's database."""
        return dump_database(config, self.stage / "data" / DUMP, scratch=self.stage / "tools")

    def finish(
        self, kind: BackupKind, report: Reporter, facts: OnlineFacts | None = None, *, hashes: bool = True
    ) -> Backup:
        """Add secrets and settings, compare all files that do not change meanwhile, and write the manifest."""
        for path in contents.settings_of(self.home):
            copy_tree(path, self.stage / path.name, skip=contents.is_temporary)
        report.begin("Checking the copy")
        files = self._hashed(kind, hashes=hashes)
        cluster = None
        if kind is not BackupKind.DUMP and self.engine is EngineName.POSTGRES:
            cluster = self._staged_path(self.data)
        manifest = Manifest(
            instance_id=self.receipt.instance_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=self.receipt.version,
            engine=str(self.engine),
            kind=kind,
            files=files,
            server_version=facts.server_version if facts is not None else _major(cluster),
            system_identifier=postgres.system_identifier(cluster) if cluster is not None else None,
            schema=self.receipt.schema,
            tables=facts.tables if facts is not None else None,
            objects=facts.objects if facts is not None else None,
        )
        write_manifest(self.stage, manifest)
        for directory in (self.stage / "data", self.stage):
            fs.sync_directory(directory)
        return Backup(self.target, manifest)

    def _hashed(self, kind: BackupKind, *, hashes: bool) -> tuple[FileEntry, ...]:
        """Return the entry of every file; files that do not change meanwhile are also compared with their source."""
        files: list[FileEntry] = []
        for path in contents.settings_of(self.home):
            files += self._compare(path, contents.is_temporary, hashes=hashes)
        if kind is BackupKind.COLD:
            files += self._compare(self.data, contents.is_excluded, hashes=hashes)
        else:
            files += _below(Path("data"), hash_files(self.stage / "data"))
        return tuple(sorted(files, key=lambda entry: entry.path))

    def _compare(self, path: Path, skip: Skip, *, hashes: bool) -> list[FileEntry]:
        copy = self._staged_path(path)
        if self.ahead is not None and path == self.data:
            result = bring_up_to_date(path, copy, self.ahead.files, skip=skip)
        else:
            result = compare_trees(path, copy, skip=skip, hashes=hashes)
        if not result.equal:
            first, more = result.differences[0], len(result.differences) - 1
            raise BackupFailedError(
                f"the copy differs from {path}: {first.path} ({first.kind}), and {more} more",
                hint="Another process is changing these files. Stop it, then run the command again.",
            )
        return _below(copy.relative_to(self.stage), result.files)

    def _staged_path(self, path: Path) -> Path:
        return self.stage / path.relative_to(self.home.path)


def _below(prefix: Path, entries: tuple[FileEntry, ...]) -> list[FileEntry]:
    return [replace(entry, path=(prefix / entry.path).as_posix()) for entry in entries]


def _major(cluster: Path | None) -> str | None:
    return None if cluster is None else str(postgres.major_of(cluster))
