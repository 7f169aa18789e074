"""Build hook that stops the build of a wheel or sdist whose migrations differ from the hash lock.

hatchling loads this file in an environment that contains only hatchling, so the modules shared with the other gates
are loaded from the source tree by path. ``initialize`` checks the source tree. ``finalize`` checks the archive that
was written, because ignore rules and excludes apply in between.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SQL = "src/mosaic_gateway/sql"
HASHLOCK = "src/mosaic_gateway/migrations/gate.py"
ARCHIVE = "installer/mosaic_gateway_installer/check_dist/archive.py"


class MigrationsRefusedError(Exception):
    """The build was stopped; the message lists every fault."""


class MigrationsHook(BuildHookInterface[Any]):
    """Verifies source tree and archive against the hash lock."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Check the source tree. Raises `MigrationsRefusedError`."""
        hashlock = self._load(HASHLOCK)
        _refuse("the source tree", hashlock.check_bundles(hashlock.read_directory(Path(self.root, SQL))))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - as above
        """Check the archive and remove it if it is faulty. Raises `MigrationsRefusedError`."""
        if version == "editable":  # contains a path to the source tree, not the files
            return
        artifact = Path(artifact_path)
        try:
            _refuse(artifact.name, self._archive_faults(artifact))
        except BaseException:
            artifact.unlink(missing_ok=True)
            raise

    def _archive_faults(self, artifact: Path) -> list[str]:
        hashlock, archive = self._load(HASHLOCK), self._load(ARCHIVE)
        shipped = archive.read_archive(artifact).bundles
        faults = list(hashlock.check_bundles(shipped))
        for bundle in hashlock.BUNDLES:
            name = f"{bundle}/{hashlock.LOCK_NAME}"
            if shipped.get(name) != Path(self.root, SQL, name).read_bytes():
                faults.append(f"{bundle}: the hash lock differs from the source tree's")
        return faults

    def _load(self, path: str) -> ModuleType:
        name = f"_mosaic_gateway_build_{Path(path).stem}"
        spec = spec_from_file_location(name, Path(self.root, path))
        if spec is None or spec.loader is None:
            raise ImportError(path)
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look up their module while it is being executed
        spec.loader.exec_module(module)
        return module


def _refuse(where: str, faults: list[str] | tuple[str, ...]) -> None:
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise MigrationsRefusedError(f"the migrations in {where} differ from the hash lock:{listed}")
