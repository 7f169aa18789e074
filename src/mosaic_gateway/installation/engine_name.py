"""The names of the database engines, as settings and receipt have them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EngineName"]


class EngineName(StrEnum):
    """What runs the database."""

    POSTGRES = "postgres"
    PGLITE = "pglite"
    SERVER = "server"
