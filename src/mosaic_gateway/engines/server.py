"""Engine ``server``: an existing PostgreSQL server named by URL. It is checked, never started or stopped."""

from __future__ import annotations

import re
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from mosaic_gateway.config import Secret
from mosaic_gateway.engines.base import EngineError, EngineReport, ServerLoginError, ServerUnreachableError
from mosaic_gateway.engines.requirements import check_server
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import PreflightError, UsageError
from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["DatabaseUrlError", "ServerEngine"]

CONNECT_TIMEOUT = 5  # seconds
ALIVE_TIMEOUT = 2  # seconds; libpq's smallest
#: Marks libpq's error text as an answer of the server: ``FATAL:`` in most languages of ``lc_messages``.
SERVER_ANSWER = re.compile(r"\b(FATAL|FEHLER|ERROR|ВАЖНО)\b|致命")
SECRETS = ("password", "sslpassword", "oauth_client_secret")
SHORTEST_SCRUBBED = 3  # characters: scrubbing a shorter secret would also replace ordinary words


class DatabaseUrlError(UsageError):
    """The database URL is malformed; the message does not repeat it, because it may contain a password."""

    code = "DATABASE_URL"


class ServerEngine:
    """A PostgreSQL server named by URL (or conninfo); implements ``Engine``."""

    def __init__(self, database_url: Secret) -> None:
        self._url = database_url

    @property
    def name(self) -> EngineName:
        """Always ``server``."""
        return EngineName.SERVER

    def start(self) -> None:
        """Connect once. Raises `DatabaseUrlError`, `ServerUnreachableError`, `ServerLoginError`."""
        self._connect(CONNECT_TIMEOUT).close()

    def verify(self) -> EngineReport:
        """Check the server against the requirements; see ``Engine.verify``."""
        with self._connect(CONNECT_TIMEOUT) as connection:
            try:
                facts = check_server(connection)
            except psycopg.Error as error:
                raise EngineError(
                    f"The check of the server failed: {self._clean(error)}", hint="See the server's log."
                ) from None
        return EngineReport(
            engine=self.name,
            server_version=facts.server_version,
            vector_version=facts.vector_version,
            vector_installed=facts.vector_installed,
        )

    def conninfo(self) -> str:
        """Return the URL's parameters as a conninfo. Raises `DatabaseUrlError`."""
        return make_conninfo("", **self._parameters())

    def alive(self) -> bool:
        """Return whether the server accepts a connection now."""
        try:
            self._connect(ALIVE_TIMEOUT).close()
        except PreflightError:
            return False
        return True

    def stop(self) -> None:
        """Do nothing: the server is managed by others."""

    def _connect(self, timeout: int) -> psycopg.Connection[TupleRow]:
        parameters = self._parameters()
        with suppress(ValueError):  # libpq itself reports a time-out that is not a number
            timeout = int(parameters.get("connect_timeout", timeout))
        try:
            return connect(self.conninfo(), application_name="mosaic-gateway", connect_timeout=timeout)
        except psycopg.Error as error:
            # Not chained: the text of the original error is not scrubbed.
            raise self._refusal(self._clean(error)) from None

    def _refusal(self, text: str) -> PreflightError:
        where = self._where()
        if SERVER_ANSWER.search(text):
            return ServerLoginError(
                f"The server at {where} rejected the login: {text}",
                hint="Check user, password and database name in the database URL, and the server's pg_hba.conf.",
            )
        return ServerUnreachableError(
            f"The server at {where} does not answer: {text}",
            hint="Check host and port in the database URL, and that the server is running and accepts connections"
            " from this machine.",
        )

    def _where(self) -> str:
        parameters = self._parameters()
        host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
        return f"{host}:{parameters.get('port', '5432')}"

    def _parameters(self) -> dict[str, str]:
        try:
            parameters = conninfo_to_dict(self._url.reveal())
        except psycopg.Error:
            # libpq's message quotes the part that it cannot parse, which may be the password.
            raise DatabaseUrlError(
                "The database URL cannot be read",
                hint="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded.",
            ) from None
        return {key: str(value) for key, value in parameters.items() if value is not None}

    def _clean(self, error: psycopg.Error) -> str:
        """Return *error* on one line with the URL's secrets replaced."""
        text = " ".join(str(error).split())
        parameters = self._parameters()
        for name in SECRETS:
            secret = parameters.get(name, "")
            if len(secret) >= SHORTEST_SCRUBBED:
                text = text.replace(secret, "****")
        return text
