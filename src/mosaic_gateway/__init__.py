"""mosaic-gateway: a self-hosted gateway and the SQL migrations of its database.

This module defines the version only and imports nothing. Each subpackage is imported where it is
used, which keeps ``--help`` fast.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
