"""Settings: precedence of their sources, invalid values, and secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.config import Config, ConfigError, Secret, default_home, load_auth_secret, load_config, parsed
from mosaic_gateway.errors import ExitCode
from mosaic_gateway.fs.record_fields import RecordError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import NotInstalledError, instance_id

URL = "postgresql://u:hidden-word@h/db"
#: Setting, default, value of the flag, environment variable, its value, value in the file.
SETTINGS = [
    ("host", "127.0.0.1", "::1", "MOSAIC_GATEWAY_HOST", "0.0.0.0", "10.0.0.1"),  # noqa: S104 - only compared
    ("port", 14242, 1, "MOSAIC_GATEWAY_PORT", "2", 3),
    ("base_url", None, "https://flag", "MOSAIC_GATEWAY_BASE_URL", "https://env", "https://file"),
    ("postgres_bin", None, "/flag", "MOSAIC_GATEWAY_POSTGRES_BIN", "/env", "/file"),
    ("database_url", None, URL + "1", "DATABASE_URL", URL + "2", URL + "3"),
    ("database_url", None, URL + "1", "MOSAIC_GATEWAY_DATABASE_URL", URL + "2", URL + "3"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


def write(home: Home, text: str) -> Home:
    """Write the settings file of *home*."""
    home.config_file.write_text(text, encoding="utf-8")
    return home


def load(home: Home, *, env: dict[str, str] | None = None, **flags: Any) -> Config:
    """Load the settings of *home*."""
    return load_config(home, flags=flags, environ=env or {})


@pytest.mark.parametrize(("name", "default", "flag", "variable", "env", "file"), SETTINGS)
def test_precedence(home: Home, name: str, default: Any, flag: Any, variable: str, env: str, file: Any) -> None:
    """A flag overrides the environment, the environment the file, the file the default; the source is reported."""

    def value(config: Config) -> str:
        setting = getattr(config, name)
        return str(setting.reveal() if isinstance(setting, Secret) else setting)

    config = load(home)
    assert (value(config), config.sources.get(name)) == (str(default), None)
    write(home, f'engine = "server"\n{name} = {file!r}\n')
    config = load(home)
    assert (value(config), config.sources[name]) == (str(file), str(home.config_file))
    config = load(home, env={variable: env})
    assert (value(config), config.sources[name]) == (env, variable)
    config = load(home, env={variable: env}, **{name: flag})
    assert (value(config), config.sources[name]) == (str(flag), "flag")
    assert value(load(home, env={variable: ""})) == str(file), "an empty variable counts as not set"


def test_own_variable_before_database_url(home: Home) -> None:
    """MOSAIC_GATEWAY_DATABASE_URL overrides DATABASE_URL, which other programs use, too."""
    config = load(home, env={"DATABASE_URL": URL, "MOSAIC_GATEWAY_DATABASE_URL": URL + "2"})
    assert config.sources["database_url"] == "MOSAIC_GATEWAY_DATABASE_URL"


@pytest.mark.parametrize(
    ("file", "env", "flags", "engine"),
    [
        ("", {}, {}, "postgres"),
        ("", {"DATABASE_URL": URL}, {}, "server"),
        ("", {"DATABASE_URL": URL}, {"engine": "postgres"}, "postgres"),
        ("", {"DATABASE_URL": URL, "MOSAIC_GATEWAY_ENGINE": "postgres"}, {}, "postgres"),
        ("", {"MOSAIC_GATEWAY_ENGINE": "postgres"}, {"database_url": URL}, "server"),
        ("", {"MOSAIC_GATEWAY_ENGINE": "postgres"}, {"database_url": URL, "engine": "postgres"}, "postgres"),
        ('engine = "postgres"', {"DATABASE_URL": URL}, {}, "postgres"),
        ('engine = "postgres"', {"MOSAIC_GATEWAY_DATABASE_URL": URL}, {}, "postgres"),
        ('engine = "postgres"', {}, {"database_url": URL}, "server"),
        ('engine = "server"', {"DATABASE_URL": URL}, {}, "server"),
        (f'database_url = "{URL}"', {}, {}, "server"),
    ],
)
def test_engine_follows_the_url(home: Home, file: str, env: dict[str, str], flags: dict[str, str], engine: str) -> None:
    """A database URL selects the server engine, but DATABASE_URL never switches a home with another engine."""
    assert load(write(home, file), env=env, **flags).engine is EngineName(engine)


@pytest.mark.parametrize(
    "text",
    [
        "port = 0", "port = 65536", "port = -1", "port = true", "port = 14242.5", 'port = "x"', "port = []",
        'host = ""', "host = 1", 'engine = "oracle"', "engine = 1", "base_url = 1", 'base_url = "gateway.example"',
        'base_url = "ftp://x"', 'base_url = "https://"', 'base_url = "https://u:p@x"', 'base_url = "https://x/?a"',
        "postgres_bin = 1", 'database_url = ""', "unknown = 1", 'auth_secret = "x"', "port = ", "[table]\nport = 1",
        "port = 1\nport = 2",
    ],
)  # fmt: skip
def test_refused_settings(home: Home, text: str) -> None:
    """An invalid file is refused, and the error names it."""
    with pytest.raises(ConfigError) as caught:
        load(write(home, text))
    assert str(home.config_file) in caught.value.message
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        *(("base_url", value, "URL without a path") for value in (
            "https://a.example/gateway", "https://a.example/?", "https://a.example/#", "https://u@a.example",
            "a.example", "ftp://a.example", "https://bücher.example", "https://*.example", "https://127.1",
        )),
        *(("trusted_origins", value, "list of origins") for value in (
            "a.example", "https://a.example/path", "*", "https://*", "myapp://a", "https://a.example,,", "null",
        )),
        *(("trusted_proxies", value, "IP addresses or networks, not host names") for value in (
            "localhost", "*", "10.1.0.0/8", "127.0.0.1:80", "unix:/run/x", "127.0.0.1,",
        )),
    ],
)  # fmt: skip
def test_refused_web_settings(home: Home, name: str, value: str, hint: str) -> None:
    """What could never match is refused when the settings are read, with what to write instead."""
    with pytest.raises(ConfigError, match=f"invalid value for {name} from MOSAIC_GATEWAY_{name.upper()}") as caught:
        load(home, env={f"MOSAIC_GATEWAY_{name.upper()}": value})
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("value", ["localhost", ("localhost",), ["localhost"]])
def test_a_refused_list_is_shown_as_it_was_typed(home: Home, value: object) -> None:
    """Neither a tuple nor a list of Python."""
    with pytest.raises(ConfigError) as caught:
        parsed("trusted_proxies", value, "the command line")
    assert caught.value.message == "invalid value for trusted_proxies from the command line: 'localhost'"


def test_web_settings(home: Home) -> None:
    """Lists are TOML lists, or separated by commas in a variable."""
    write(
        home,
        'trusted_origins = ["https://a.example", "*.b.example"]\ntrusted_proxies = ["127.0.0.1", "unix", "fd00::/8"]',
    )
    config = load(home)
    assert config.trusted_origins == ("https://a.example", "*.b.example")
    assert config.trusted_proxies == ("127.0.0.1", "unix", "fd00::/8")
    assert load(home, env={"MOSAIC_GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_proxies == (
        "10.0.0.0/8",
        "::1",
    )


@pytest.mark.parametrize("value", ["0", "65536", "x", "1.5", "-1"])
def test_refused_variables(home: Home, value: str) -> None:
    """The error for an invalid variable names it and its value."""
    with pytest.raises(ConfigError, match=f"MOSAIC_GATEWAY_PORT.*{value}"):
        load(home, env={"MOSAIC_GATEWAY_PORT": value})


def test_unreadable_files(home: Home) -> None:
    """Invalid UTF-8 and a directory in place of the file are refused; a missing file is accepted."""
    assert load(Home(home.path / "none")).port == 14242
    home.config_file.write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError):
        load(home)
    home.config_file.unlink()
    home.config_file.mkdir()
    with pytest.raises(ConfigError):
        load(home)


def test_secrets_stay_secret(home: Home) -> None:
    """A secret appears neither in the settings' ``str`` and ``repr`` nor in errors."""
    config = load(home, env={"DATABASE_URL": URL, "BETTER_AUTH_SECRET": "hidden-word"})
    assert "hidden-word" not in f"{config} {config!r} {config.database_url} {config.auth_secret!r}"
    assert config.database_url == Secret(URL)
    with pytest.raises(ConfigError) as caught:
        load(write(home, "database_url = ['hidden-word']"))
    assert "hidden-word" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("host", "base_url", "url", "local"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:14242", "http://127.0.0.1:14242"),
        ("0.0.0.0", None, "http://127.0.0.1:14242", "http://127.0.0.1:14242"),  # noqa: S104 - only compared
        ("::1", None, "http://[::1]:14242", "http://[::1]:14242"),
        ("::", "https://a.example/", "https://a.example", "http://127.0.0.1:14242"),
    ],
)
def test_addresses(home: Home, host: str, base_url: str | None, url: str, local: str) -> None:
    """Users get the base URL, local processes the address on which the gateway listens."""
    config = load(home, host=host, base_url=base_url)
    assert (config.url, config.local_url) == (url, local)


def test_default_home(tmp_path: Path) -> None:
    """The variable sets the home; without it, each user has a default one."""
    assert default_home({"MOSAIC_GATEWAY_HOME": str(tmp_path)}) == tmp_path
    assert default_home({"MOSAIC_GATEWAY_HOME": ""}).name == "mosaic-gateway"


@pytest.mark.root
def test_default_home_of_root() -> None:
    """The default home of root is in /var/lib."""
    assert default_home({}) == Path("/var/lib/mosaic-gateway")


def test_no_installation(home: Home) -> None:
    """A home without a receipt is none, and the error says so."""
    with pytest.raises(NotInstalledError) as caught:
        instance_id(home)
    assert caught.value.exit_code is ExitCode.PREFLIGHT


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"instance_id"}', "\udcff"])
def test_a_damaged_receipt(home: Home, content: str) -> None:
    """It is reported as such, with the file's name."""
    home.receipt.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match=r"receipt\.json"):
        instance_id(home)


def test_auth_secret(home: Home) -> None:
    """The secret of the environment has precedence over the home's; an empty or missing one is an error."""
    home.secrets.mkdir()
    for content in (None, b"", b" \n", b"\xff"):
        if content is not None:
            home.auth_secret.write_bytes(content)
        with pytest.raises(NotInstalledError):
            load_auth_secret(load(home))
    home.auth_secret.write_text("of the home\n")
    assert load_auth_secret(load(home)) == Secret("of the home")
    assert load_auth_secret(load(home, env={"BETTER_AUTH_SECRET": "given"})) == Secret("given")
