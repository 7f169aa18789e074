"""A support archive: what somebody who helps from afar wants to see, and no secret.

Theory of operation. Nothing is copied whole but logs and the receipt; settings are shown as `config show` does,
masked. All text then passes one scrubber, which knows every secret of the home by its value (secret files, the
database URL and its password, whatever the environment gave), and blanks what looks like a token, a password in a
URL or a cookie, whoever's it is.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.config import Config, process_environment
from mosaic_gateway.errors import UsageError
from mosaic_gateway.fs.files import read_regular
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.host import read_host
from mosaic_gateway_installer.service.registry import present_text

__all__ = ["SecretRedactor", "secrets_of", "write_support_archive"]

LOG_LINES = 2_000
MASK = "****"
SHORTEST = 3  # characters: a shorter secret would blank out ordinary words
LISTED = 5_000  # files of the home
#: What is a secret by its look: URL passwords, set-up tokens, authorization headers, cookies, key=value pairs.
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@]*):[^@/\s]+@", re.IGNORECASE), rf"\1:{MASK}@"),
    (re.compile(r"(#|[?&])(token|code)=[\w.%-]+"), rf"\1\2={MASK}"),
    (re.compile(r"\b(authorization|cookie|set-cookie|x-setup-token)\b(\s*[:=]\s*).*", re.IGNORECASE), rf"\1\2{MASK}"),
    (
        re.compile(
            r"\b(\w*(?:password|passwd|secret|token|api_?key))\b(\"?\s*[:=]\s*\"?)[^\s\",;{}\[]+", re.IGNORECASE
        ),
        rf"\1\2{MASK}",
    ),
)


class SupportFileError(UsageError):
    """The archive cannot be written where it was asked for."""

    code = "SUPPORT_FILE"


class SecretRedactor:
    """Takes *secrets* out of texts, and what looks like one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if len(secret) >= SHORTEST}
        # The longest first: one may be a part of another.
        self._secrets = sorted(found, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return *text* without them."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern, retained in PATTERNS:
            text = pattern.sub(retained, text)
        return text


def secrets_of(home: Home, config: Config | None) -> set[str]:
    """Return every secret that this process can know of *home*, by value, as it may be written in a text."""
    found: set[str] = set()
    with suppress(OSError):
        for path in home.secrets.iterdir():
            with suppress(OSError):
                found.add(read_regular(path).decode("utf-8", "replace").strip())
    values = [] if config is None else [config.database_url, config.auth_secret]
    found |= {value.reveal() for value in values if value is not None}
    if config is not None and config.database_url is not None:
        found |= _parts_of_url(config.database_url.reveal())
    for name, value in process_environment().items():
        if re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL", name):
            found.add(value)
    return found - {""}


def _parts_of_url(url: str) -> set[str]:
    """Return the passwords in a database URL or conninfo, as written and as meant."""
    from urllib.parse import quote, urlsplit

    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    found: set[str] = set()
    with suppress(ValueError):
        found.add(urlsplit(url).password or "")
    with suppress(psycopg.Error):
        given = conninfo_to_dict(url)
        meant = {str(value) for key, value in given.items() if "password" in key and value}
        found |= meant | {quote(value, safe="") for value in meant}
    return found


def write_support_archive(
    target: Path, home: Home, config: Config | None, findings: Sequence[CheckResult]
) -> list[str]:
    """Write the archive *target* (.tar.gz, 0600) and return the names of what is in it. Raises `SupportFileError`."""
    scrubber = SecretRedactor(secrets_of(home, config))
    members = {name: scrubber.clean(text) for name, text in _contents(home, config, findings).items()}
    with os.fdopen(_new_file(target, home), "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in members.items():
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"mosaic-gateway-support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return list(members)


def _new_file(target: Path, home: Home) -> int:
    """Return a descriptor of the new file *target*, which root's process makes where root has named it."""
    if home.broker is not None:
        return home.broker.ask(Request.OPEN_OUTPUT)[1][0]
    try:
        return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SupportFileError(
            f"{target} cannot be written: {error.strerror}", hint="Name a file that is not there yet: --bundle FILE"
        ) from error


def _contents(home: Home, config: Config | None, findings: Sequence[CheckResult]) -> dict[str, str]:
    found = {
        "findings.json": _json([finding.to_dict() for finding in findings]),
        "versions.json": _json(_versions()),
        "machine.json": _json(_machine()),
        "settings.json": _json(_settings(config)),
        "files.txt": _listing(home),
        "gateway.log": "\n".join(tail_of(home.gateway_log, LOG_LINES)),
        "postgres.log": "\n".join(tail_of(home.postgres_log, LOG_LINES)),
    }
    for name, path in {"receipt.json": home.receipt, "journal.jsonl": home.journal}.items():
        with suppress(OSError):
            found[name] = read_regular(path).decode("utf-8", "replace")
    service = registered_service(home)
    if service is not None:
        found["service.unit"] = present_text(service) or ""
    return found


def _versions() -> dict[str, Any]:
    packages = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    return {"mosaic-gateway": __version__, "python": sys.version, "packages": dict(sorted(packages.items()))}


def _machine() -> dict[str, Any]:
    host = read_host()
    facts = {name: getattr(host, name) for name in ("system", "machine", "libc", "memory", "has_locale")}
    return {**facts, "limits": dict(host.limits), "cpu": host.cpu.model, "now": host.now, "release": platform.release()}


def _settings(config: Config | None) -> Mapping[str, Any]:
    if config is None:
        return {}
    names = ("host", "port", "engine", "postgres_bin", "base_url", "database_url", "auth_secret")
    return {
        name: {"value": str(value) if (value := getattr(config, name)) is not None else None,
               "source": config.sources.get(name, "default")}
        for name in names
    }  # fmt: skip


def _listing(home: Home) -> str:
    """Return owner, mode, size and name of what the home holds, but for the insides of cluster and programs."""
    lines: list[str] = []
    for root, directories, files in os.walk(home.path):
        directories.sort()
        depth = len(Path(root).relative_to(home.path).parts)
        if depth >= 2:  # noqa: PLR2004 - data/postgres-18, runtime/gateway-1.2.3
            directories.clear()
        for name in sorted([*directories, *files]):
            path = os.path.join(root, name)  # noqa: PTH118 - os.walk gives texts
            with suppress(OSError):
                status = os.lstat(path)
                lines.append(f"{status.st_mode:06o} {status.st_uid}:{status.st_gid} {status.st_size:>12} {path}")
    return "\n".join(lines[:LISTED])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"
