"""Errors about missing or altered programs of PGlite."""

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
    """No Node.js that this user can run was found."""

    code = "NODE_MISSING"


class NodeTooOldError(PreflightError):
    """The Node.js found is older than PGlite requires."""

    code = "NODE_TOO_OLD"


class NpmMissingError(PreflightError):
    """npm, which fetches PGlite's packages, was not found."""

    code = "NPM_MISSING"


class RegistryError(PreflightError):
    """npm could not fetch PGlite's packages; the message ends with npm's output."""

    code = "NPM_REGISTRY"


class PackagesMissingError(PreflightError):
    """A file of PGlite's packages is missing; the message names the package."""

    code = "PGLITE_MISSING"


class PackagesAlteredError(PreflightError):
    """A file of PGlite's packages differs from the published one."""

    code = "PGLITE_ALTERED"
