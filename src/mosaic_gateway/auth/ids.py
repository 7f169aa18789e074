"""Identifiers and session tokens in better-auth's format: 32 characters of [A-Za-z0-9], 190 bits."""

from __future__ import annotations

import secrets
import string

__all__ = ["ID_LENGTH", "new_id"]

ID_LENGTH = 32
ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """Return a new identifier from the system's random source, suitable as a session token."""
    return "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))
