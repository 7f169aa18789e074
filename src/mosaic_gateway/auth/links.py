"""The link by which a person proves to be the one who installed the gateway."""

from __future__ import annotations

from mosaic_gateway.auth.setup_tokens import SetupToken

__all__ = ["setup_url"]


def setup_url(base_url: str, token: SetupToken) -> str:
    """Return the page's address with *token* in the fragment, which browsers send to no server."""
    return f"{base_url}/setup#token={token.token.reveal()}"
