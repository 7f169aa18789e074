"""What the application needs from the process that runs it."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mosaic_gateway.config import Secret
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The pool and the settings of the application, supplied by `run.server`.

    ``pool`` comes from `make_pool`. ``home`` is None where the application runs without an installation.
    """

    pool: AsyncConnectionPool[AsyncConnection]
    auth_secret: Secret
    web: WebSettings
    version: str
    instance_id: str | None
    engine: EngineName = EngineName.POSTGRES
    home: Home | None = None
