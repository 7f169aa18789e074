"""The group ``auth``."""

from __future__ import annotations

from collections.abc import Mapping

from mosaic_gateway.cli.root import LazyGroup

__all__ = ["auth"]

_HERE = "mosaic_gateway.cli.auth"
GROUPS: Mapping[str, tuple[str, str, str]] = {
    "users": (f"{_HERE}.users", "users", "Create, list, change, ban and remove users."),
    "sessions": (f"{_HERE}.sessions", "sessions", "List and revoke sessions."),
    "tokens": (f"{_HERE}.tokens", "tokens", "Create, list and revoke API tokens."),
}

auth = LazyGroup("auth", commands_at=GROUPS, help="Manage the users who may sign in, their sessions and API tokens.")
