"""The names of the database engines in settings and receipt."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EngineName"]


class EngineName(StrEnum):
    """The database engines."""

    POSTGRES = "postgres"
    PGLITE = "pglite"
    SERVER = "server"
