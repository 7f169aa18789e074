"""A support archive: findings, versions, settings, file list and logs, with secrets masked.

Theory of operation. Only the ends of the logs, the receipt, the journal and the service unit are copied; settings are
masked as in `config show`. All text then passes one `SecretRedactor`. It masks every known secret of the home by value
(secret files, the database URL and its password, secrets in the environment), and by pattern whatever has the form of
a token, a password in a URL, or a cookie.
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

from mosaic_gateway import __version__, fs, process
from mosaic_gateway.config import Config
from mosaic_gateway.errors import UsageError
from mosaic_gateway.gateway.control import registered_service
from mosaic_gateway.installation import Home
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.host import read_host
from mosaic_gateway_installer.service.registry import present_text

__all__ = ["SecretRedactor", "secrets_of", "write_support_archive"]

LOG_LINES = 2_000
MASK = "****"
MIN_LENGTH = 3  # characters: masking a shorter secret would mask parts of ordinary words
MAX_LISTED = 5_000  # files of the home
#: Secrets recognised by form: URL passwords, set-up tokens, authorization headers, cookies, key=value pairs.
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
    """The archive cannot be written to the given path."""

    code = "SUPPORT_FILE"


class SecretRedactor:
    """Mask *secrets* in texts, and what has the form of a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        maskable = {secret for secret in secrets if len(secret) >= MIN_LENGTH}
        # The longest first: one may be a part of another.
        self._secrets = sorted(maskable, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return *text* with secrets replaced by ``****``."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern, replacement in PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def secrets_of(home: Home, config: Config | None) -> set[str]:
    """Return the values of all secrets of *home* that this process can read, in each form that a text may contain."""
    secrets: set[str] = set()
    with suppress(OSError):
        for path in home.secrets.iterdir():
            with suppress(OSError):
                secrets.add(fs.read_regular(path).decode("utf-8", "replace").strip())
    values = [] if config is None else [config.database_url, config.auth_secret]
    secrets |= {value.reveal() for value in values if value is not None}
    if config is not None and config.database_url is not None:
        secrets |= _passwords_in_url(config.database_url.reveal())
    for name, value in process.process_environment().items():
        if re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL", name):
            secrets.add(value)
    return secrets - {""}


def _passwords_in_url(url: str) -> set[str]:
    """Return the passwords in a database URL or conninfo: as written, decoded, and percent-encoded."""
    from urllib import parse

    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    passwords: set[str] = set()
    with suppress(ValueError):
        passwords.add(parse.urlsplit(url).password or "")
    with suppress(psycopg.Error):
        parameters = conninfo_to_dict(url)
        decoded = {str(value) for key, value in parameters.items() if "password" in key and value}
        passwords |= decoded | {parse.quote(value, safe="") for value in decoded}
    return passwords


def write_support_archive(
    target: Path, home: Home, config: Config | None, findings: Sequence[CheckResult]
) -> list[str]:
    """Write the archive *target* (.tar.gz, mode 0600) and return its member names. Raises `SupportFileError`."""
    redactor = SecretRedactor(secrets_of(home, config))
    members = {name: redactor.clean(text) for name, text in _contents(home, config, findings).items()}
    with os.fdopen(_new_file(target, home), "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in members.items():
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"mosaic-gateway-support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return list(members)


def _new_file(target: Path, home: Home) -> int:
    """Return a descriptor of the new file *target*; root's process opens it if the command was run by root."""
    if home.broker is not None:
        return home.broker.ask(process.Request.OPEN_OUTPUT)[1][0]
    try:
        return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SupportFileError(
            f"{target} cannot be written: {error.strerror}", hint="Give a file that does not exist: --bundle FILE"
        ) from error


def _contents(home: Home, config: Config | None, findings: Sequence[CheckResult]) -> dict[str, str]:
    members = {
        "findings.json": _json([finding.to_dict() for finding in findings]),
        "versions.json": _json(_versions()),
        "machine.json": _json(_machine()),
        "settings.json": _json(_settings(config)),
        "files.txt": _listing(home),
        "gateway.log": "\n".join(process.tail_of(home.gateway_log, LOG_LINES)),
        "postgres.log": "\n".join(process.tail_of(home.postgres_log, LOG_LINES)),
    }
    for name, path in {"receipt.json": home.receipt, "journal.jsonl": home.journal}.items():
        with suppress(OSError):
            members[name] = fs.read_regular(path).decode("utf-8", "replace")
    service = registered_service(home)
    if service is not None:
        members["service.unit"] = present_text(service) or ""
    return members


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
    """Return mode, owner, size and path of each file in the home, without the content of cluster and programs."""
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
    return "\n".join(lines[:MAX_LISTED])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"
