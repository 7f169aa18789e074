"""The link by which a person proves to be the one who installed the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the installer builds links too, and does not want a database driver for that
    from mosaic_gateway.auth.setup_tokens import SetupToken

__all__ = ["setup_url"]


def setup_url(base_url: str, token: SetupToken) -> str:
    """Return the page's address with *token* in the fragment, which browsers send to no server."""
    return f"{base_url}/setup#token={token.token.reveal()}"
