"""The set-up link, which authorizes its holder to create the first admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the installer builds links without importing a database driver
    from mosaic_gateway.auth.setup_tokens import SetupToken

__all__ = ["setup_url"]


def setup_url(base_url: str, token: SetupToken) -> str:
    """Return the URL of the set-up page with *token* in the fragment, which browsers do not send to the server."""
    return f"{base_url}/setup#token={token.token.reveal()}"
