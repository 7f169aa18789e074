"""How PGlite's programs can be missing or wrong; each error says what to do about it."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError

__all__ = [
    "NODE_HINT",
    "NodeMissingError",
    "NodeTooOldError",
    "NpmMissingError",
    "PackagesAlteredError",
    "PackagesMissingError",
    "RegistryError",
]

NODE_HINT = "Install Node.js 20 or later, or the extra: pip install 'mosaic-gateway[pglite]'."


class NodeMissingError(PreflightError):
    """There is no Node.js that this user can run."""

    code = "NODE_MISSING"


class NodeTooOldError(PreflightError):
    """There is a Node.js, but it is older than PGlite needs."""

    code = "NODE_TOO_OLD"


class NpmMissingError(PreflightError):
    """There is Node.js without npm, which fetches PGlite's packages."""

    code = "NPM_MISSING"


class RegistryError(PreflightError):
    """npm could not fetch PGlite's packages; the message ends with what npm said."""

    code = "NPM_REGISTRY"


class PackagesMissingError(PreflightError):
    """A file of PGlite's packages is not there; the message names the package."""

    code = "PGLITE_MISSING"


class PackagesAlteredError(PreflightError):
    """A file of PGlite's packages is not the one that was published."""

    code = "PGLITE_ALTERED"
