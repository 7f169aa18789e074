"""Static checks of migration files: rules over PostgreSQL's own parse tree. Needs the extra ``lint`` to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.migrations.lint.engine import default_profile, lint_bundle_files, packaged_files
    from mosaic_gateway.migrations.lint.finding import LintFinding, Profile
else:
    __getattr__ = lazy_names(
        __name__,
        engine="default_profile lint_bundle_files packaged_files",
        finding="LintFinding Profile",
    )

__all__ = ["LintFinding", "Profile", "default_profile", "lint_bundle_files", "packaged_files"]
