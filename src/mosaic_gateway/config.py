"""Settings of an installation.

Sources of a value, in order of precedence: a command-line flag, ``MOSAIC_GATEWAY_*`` (and ``DATABASE_URL``,
``BETTER_AUTH_SECRET``), ``<home>/config.toml``, the default.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mosaic_gateway.errors import UsageError
from mosaic_gateway.forward_rules import ForwardSettings, parse_forward
from mosaic_gateway.fs.files import parse_toml, read_regular
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import NotInstalledError
from mosaic_gateway.web_origin import Origin, OriginPattern, is_address, parse_authority

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "EVERY_ADDRESS",
    "LISTS",
    "SETTINGS",
    "SYSTEM_HOME",
    "VARIABLES",
    "Config",
    "ConfigError",
    "Secret",
    "default_home",
    "load_auth_secret",
    "load_config",
    "parsed",
]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 14242
SYSTEM_HOME = Path("/var/lib/mosaic-gateway")
LARGEST_PORT = 65535
EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound
SECRETS = frozenset({"database_url", "auth_secret"})


class ConfigError(UsageError):
    """A setting has an invalid value; the message names its source."""

    code = "CONFIG_INVALID"


class Secret:
    """A string whose ``str`` and ``repr`` are masked; `reveal` returns the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; the caller must not put it into arguments, logs or errors."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('****')"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings. ``sources`` maps a setting to the source of its value."""

    home: Home
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    engine: EngineName = EngineName.POSTGRES
    database_url: Secret | None = None
    postgres_bin: Path | None = None
    pglite_dir: Path | None = None
    base_url: str | None = None
    trusted_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    cookie_domain: str | None = None
    forward: ForwardSettings = field(default_factory=ForwardSettings)
    auth_secret: Secret | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL for users: ``base_url`` if set, else host and port."""
        if self.base_url:
            return self.base_url.rstrip("/")
        return f"http://{_url_host(self.host)}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def listens_on(self) -> str:
        """The address that the gateway binds, for display."""
        if self.host in EVERY_ADDRESS:
            return f"port {self.port} of every address of this machine"
        return f"{_in_url(self.host)}:{self.port}"

    @property
    def local_url(self) -> str:
        """The URL at which local processes reach the gateway."""
        return f"http://{_url_host(self.host)}:{self.port}"


#: Setting -> environment variables, in order of precedence.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "host": ("MOSAIC_GATEWAY_HOST",),
    "port": ("MOSAIC_GATEWAY_PORT",),
    "engine": ("MOSAIC_GATEWAY_ENGINE",),
    "database_url": ("MOSAIC_GATEWAY_DATABASE_URL", "DATABASE_URL"),
    "postgres_bin": ("MOSAIC_GATEWAY_POSTGRES_BIN",),
    "pglite_dir": ("MOSAIC_GATEWAY_PGLITE_DIR",),
    "base_url": ("MOSAIC_GATEWAY_BASE_URL",),
    "trusted_origins": ("MOSAIC_GATEWAY_TRUSTED_ORIGINS",),
    "trusted_proxies": ("MOSAIC_GATEWAY_TRUSTED_PROXIES",),
    "cookie_domain": ("MOSAIC_GATEWAY_COOKIE_DOMAIN",),
    "forward": (),
    "auth_secret": ("BETTER_AUTH_SECRET",),
}


#: Settings that are not secret, and those among them that are lists.
SETTINGS = tuple(name for name in VARIABLES if name not in SECRETS)
LISTS = frozenset({"trusted_origins", "trusted_proxies"})


def default_home(environ: Mapping[str, str]) -> Path:
    """Return ``MOSAIC_GATEWAY_HOME``, or the default home of this user."""
    named = environ.get("MOSAIC_GATEWAY_HOME")
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return SYSTEM_HOME
    from platformdirs import user_data_path  # noqa: PLC0415 - costs start-up time, rarely needed

    return user_data_path("mosaic-gateway", appauthor=False)


def load_config(home: Home, *, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Return the settings of *home*; *flags* contains the options given on the command line.

    Raises `ConfigError` for an unreadable file, an unknown key or an invalid value.
    """
    stored = read_config_file(home.config_file)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, variables in VARIABLES.items():
        variable = next((v for v in variables if environ.get(v)), None)
        if flags.get(name) is not None:
            values[name], sources[name] = flags[name], "flag"
        elif variable is not None:
            values[name], sources[name] = environ[variable], variable
        elif name in stored:
            values[name], sources[name] = stored[name], str(home.config_file)
    _choose_engine(values, sources, stored)
    config = Config(home=home, sources=sources, **{k: parsed(k, v, sources[k]) for k, v in values.items()})
    _check_cookie_domain(config)
    return config


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings in the file *path*, an empty dictionary if it does not exist. Raises `ConfigError`."""
    try:
        stored = parse_toml(read_regular(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise ConfigError(
            f"user id {os.geteuid()}, which runs the gateway, has no permission to read {path}",
            hint=f"As root: chown {os.geteuid()} {shlex.quote(str(path))} && chmod 600 {shlex.quote(str(path))}",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", hint="Correct the file, or restore it from a backup."
        ) from error
    unknown = sorted(set(stored) - (set(VARIABLES) - {"auth_secret"}))
    if unknown:
        raise ConfigError(
            f"{path} has unknown settings: {', '.join(unknown)}",
            hint=f"Known settings: {', '.join(sorted(set(VARIABLES) - {'auth_secret'}))}.",
        )
    return stored


def load_auth_secret(config: Config) -> Secret:
    """Return the key that signs cookies: ``BETTER_AUTH_SECRET``, or the one in the home. Raises `NotInstalledError`."""
    if config.auth_secret is not None:
        return config.auth_secret
    path = config.home.auth_secret
    try:
        value = read_regular(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotInstalledError(
            f"the secret {path} cannot be read: {error}",
            hint="Restore it from a backup: a new secret would end every session.",
        ) from error
    if not value:
        raise NotInstalledError(f"the secret {path} is empty", hint="Restore it from a backup.")
    return Secret(value)


def _choose_engine(values: dict[str, Any], sources: dict[str, str], stored: Mapping[str, Any]) -> None:
    """Select the server engine if a database URL is given as a flag, or elsewhere while no source names an engine.

    ``DATABASE_URL`` is often meant for another program: it never switches an installed home to a server.
    """
    if "database_url" not in values or sources.get("engine") == "flag":
        return
    named = sources.get("engine") in VARIABLES["engine"] or "engine" in stored
    if sources["database_url"] == "flag" or not named:
        values["engine"], sources["engine"] = EngineName.SERVER, f"implied by {sources['database_url']}"


def parsed(name: str, value: Any, source: str) -> Any:
    """Return *value*, a text or a TOML value, converted for the setting *name*.

    Raises `ConfigError`, which names *source*.
    """
    convert: Callable[[Any], Any] = CONVERSIONS.get(name, _text)
    try:
        return convert(value)
    except (TypeError, ValueError) as error:
        displayed = "the value" if name in SECRETS else str(error) if name == "forward" else _shown(value)
        raise ConfigError(f"invalid value for {name} from {source}: {displayed}", hint=_hint(name)) from error


def _shown(value: Any) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, list | tuple) and value else repr(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(value)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """Return the strings of a list, or of a text that separates them by commas (an environment variable)."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise TypeError(value)
    return tuple(_text(part) for part in parts)


def _port(value: Any) -> int:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise TypeError(value)
    number = int(value)
    if not 0 < number <= LARGEST_PORT:
        raise ValueError(value)
    return number


def _base_url(value: Any) -> str:
    """Return an origin as written; a path would need to be in every link, cookie and response, and is refused."""
    text = _text(value)
    if Origin.of(text) is None or urlsplit(text).path not in {"", "/"} or {"?", "#"} & set(text):
        raise ValueError(text)
    return text


def _trusted_origins(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        if OriginPattern.of(text) is None:
            _base_url(text)
    return texts


def _trusted_proxies(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        if text != "unix":
            ip_network(text)
    return texts


def _cookie_domain(value: Any) -> str:
    """Return the domain in lower case, without better-auth's dot before it; never an address, nor a single label."""
    domain = _text(value).lower().removeprefix(".")
    if parse_authority(domain) != (domain, None) or is_address(domain) or "." not in domain:
        raise ValueError(value)
    return domain


def _check_cookie_domain(config: Config) -> None:
    """Raise `ConfigError` if browsers would refuse the cookies, since the gateway is not in their domain."""
    domain, host = config.cookie_domain, urlsplit(config.url).hostname or ""
    if domain is not None and host != domain and not host.endswith(f".{domain}"):
        raise ConfigError(
            f"invalid value for cookie_domain from {config.sources['cookie_domain']}: {host} is not in {domain}",
            hint="Set base_url to the address of the gateway, and cookie_domain to a domain that contains its host.",
        )


def _directory(value: Any) -> Path:
    return Path(value).expanduser().absolute()


def _secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(_text(value))


#: Setting -> its conversion from a flag, a variable or TOML, which raises TypeError or ValueError; others are texts.
CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "port": _port,
    "engine": EngineName,
    "database_url": _secret,
    "postgres_bin": _directory,
    "pglite_dir": _directory,
    "base_url": _base_url,
    "trusted_origins": _trusted_origins,
    "trusted_proxies": _trusted_proxies,
    "cookie_domain": _cookie_domain,
    "forward": parse_forward,
    "auth_secret": _secret,
}


#: Setting -> what to write instead of an invalid value.
HINTS: Mapping[str, str] = {
    "cookie_domain": "Give a domain of two or more parts that contains the host of base_url, such as example.com.",
    "forward": "Correct it in the file; docs/reference/configuration.md describes the rules.",
    "port": f"Give a number from 1 to {LARGEST_PORT}.",
    "engine": f"Give one of: {', '.join(EngineName)}.",
    "base_url": "Give a URL without a path, such as https://gateway.example.com; a host with other letters than"
    " ASCII in its ASCII form (xn--…). For a path of another server, give the gateway a subdomain of its own.",
    "trusted_origins": 'Give a list of origins (scheme, host and port, no path) and patterns, such as ["https://app.example.com",'
    ' "https://*.example.com"].',
    "trusted_proxies": 'Give IP addresses or networks, not host names, such as ["127.0.0.1", "10.1.0.0/16"], and the'
    " word unix for a proxy at a unix socket. A network begins with its first address: 10.0.0.0/8, not 10.1.0.0/8.",
}


def _hint(name: str) -> str:
    return HINTS.get(name, "Give a string that is not empty.")


def _url_host(host: str) -> str:
    return "127.0.0.1" if host in EVERY_ADDRESS else _in_url(host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
