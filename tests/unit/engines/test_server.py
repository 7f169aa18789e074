"""Tests of the URL of engine ``server``: parsing, errors, and secrets in messages."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines.base import ServerLoginError, ServerUnreachableError
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.server import ServerEngine
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home


def test_engine_for_a_url() -> None:
    """The configuration selects the engine; the URL is converted to a conninfo."""
    config = Config(home=Home(Path("/h")), engine=EngineName.SERVER, database_url=Secret("postgresql://u:p%40@h:1/d"))
    engine = engine_for(config)
    assert engine.name is EngineName.SERVER
    assert conninfo_to_dict(engine.conninfo()) == {
        "user": "u", "password": "p@", "host": "h", "port": "1", "dbname": "d",
    }  # fmt: skip


def test_engine_without_a_url() -> None:
    """The engine 'server' without a URL is a usage error that names the settings."""
    with pytest.raises(UsageError) as caught:
        engine_for(Config(home=Home(Path("/h")), engine=EngineName.SERVER))
    assert "--database-url" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('connection failed: FATAL:  password authentication failed for user "x"', ServerLoginError),
        ("connection failed: FATAL:  la autentificación password falló para el usuario «x»", ServerLoginError),
        ("connection failed: ВАЖНО:  пользователь не прошёл проверку", ServerLoginError),
        ("connection failed: Connection refused", ServerUnreachableError),
        ('could not translate host name "fatality" to address', ServerUnreachableError),
    ],
)
def test_refused_or_unreachable(text: str, kind: type[Exception]) -> None:
    """A server's rejection is distinguished from a network error, in any language."""
    assert type(ServerEngine(Secret("host=h"))._refusal(text)) is kind


@pytest.mark.parametrize("secret", ["hunter2", "two words", "it's"])
def test_secrets_are_scrubbed_from_messages(secret: str) -> None:
    """A secret that libpq repeats in a message is replaced."""
    quoted = secret.replace("'", "\\'")
    engine = ServerEngine(Secret(f"host=h password='{quoted}'"))
    assert engine._clean(psycopg.OperationalError(f"bad\n  {secret} here")) == "bad **** here"
    assert secret not in repr(engine.__dict__)
