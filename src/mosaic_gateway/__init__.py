"""mosaic-gateway: a self-hosted gateway and the SQL that its database is made of.

Importing this package loads nothing but the version; each layer is imported by name, so that a
command line which only prints its help pays for none of them.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
