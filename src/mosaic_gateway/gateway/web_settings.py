"""The settings of the application that concern its address, its proxies and its cookies."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.forward_rules import ForwardRule

__all__ = ["WebSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """``base_url`` is the public URL of the gateway, ``local_url`` the one on its machine (empty: unknown).

    The other fields are the settings of the same names; ``forward_rules`` and ``forward_user`` are ``rules`` and
    ``user`` of the table ``[forward]``.
    """

    base_url: str
    local_url: str = ""
    trusted_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    cookie_domain: str | None = None
    forward_rules: tuple[ForwardRule, ...] = ()
    forward_user: str = "id"

    @classmethod
    def of(cls, config: Config) -> WebSettings:
        """Return the settings of *config*."""
        return cls(
            base_url=config.url,
            local_url=config.local_url,
            trusted_origins=config.trusted_origins,
            trusted_proxies=config.trusted_proxies,
            cookie_domain=config.cookie_domain,
            forward_rules=config.forward.rules,
            forward_user=config.forward.user,
        )
