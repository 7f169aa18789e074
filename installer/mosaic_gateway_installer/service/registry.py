"""Puts a unit file in place and takes it away, without ever losing what a person changed in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.fs.files import make_directory, read_regular, remove_file, write_file
from mosaic_gateway.gateway.control.service import Service, is_for_home, stop_commands
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway_installer.service.edits import as_drop_in
from mosaic_gateway_installer.service.unit_facts import is_unchanged

__all__ = [
    "READABLE",
    "ServiceFailedError",
    "UnitForeignError",
    "drop_ins_of",
    "enable",
    "is_enabled",
    "is_in_place",
    "present_text",
    "register",
    "reload",
    "unregister",
]

LIMIT = 60.0  # seconds
READABLE = 0o644
RETAINED = "kept-changes.conf"
ASIDE = ".changed-by-hand"


class ServiceFailedError(PreflightError):
    """The service manager did not take the unit."""

    code = "SERVICE_FAILED"


class UnitForeignError(RefusedError):
    """A unit of that name is there, and it is not this home's."""

    code = "SERVICE_FOREIGN"


def drop_ins_of(service: Service) -> Path:
    """Return the directory with a person's own settings for *service*."""
    return service.file.with_name(f"{service.file.name}.d")


def present_text(service: Service) -> str | None:
    """Return what the unit's file says, None where there is none. Raises OSError."""
    try:
        return read_regular(service.file).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def is_in_place(service: Service, home: Home) -> bool:
    """Return whether the unit is there, or one of *home* that was changed by hand and stays. Raises OSError."""
    present = present_text(service)
    return present is not None and (present == service.text or _stays(service, home, present, service.text))


def _stays(service: Service, home: Home, present: str, written: str) -> bool:
    """Return whether *present* was changed by hand in a way that no drop-in can say."""
    if not is_for_home(present, home) or is_unchanged(present):
        return False
    return not service.is_systemd or as_drop_in(written, present) is None


def register(service: Service, home: Home, written: str) -> list[str]:
    """Write the unit and have it started with the machine or the session; return what is worth saying.

    *written* is what we wrote the last time, by which a person's changes are known; they are kept.
    Raises `UnitForeignError`, `ServiceFailedError`, OSError.
    """
    present = present_text(service)
    notes: list[str] = []
    if present is not None and not is_for_home(present, home):
        raise UnitForeignError(
            f"{service.file} is not a unit of {home.path}",
            hint="Nothing was changed. Move that file away, or install with --no-service.",
        )
    make_directory(service.file.parent, 0o755)
    if present is None or is_unchanged(present):
        write_file(service.file, service.text, READABLE)
    elif _stays(service, home, present, written or service.text):
        notes.append(f"{service.file} was changed by hand and stays as it is: {_remedy(service)}")
    else:
        retained = drop_ins_of(service) / RETAINED
        make_directory(retained.parent, 0o755)
        write_file(retained, as_drop_in(written or service.text, present) or "", READABLE)
        write_file(service.file, service.text, READABLE)
        notes.append(f"{service.file} had been changed by hand; the changes are in {retained} now")
    reload(service)
    enable(service)
    return notes


def enable(service: Service) -> None:
    """Have it started with the machine or the session. Raises `ServiceFailedError`."""
    _manage(service, "enable", service.name)


def is_enabled(service: Service) -> bool:
    """Return whether it starts with the machine or the session; launchd's jobs always do.

    Read from the links that ``systemctl enable`` makes: without a message bus, systemd answers root alone.
    """
    return not service.is_systemd or any(service.file.parent.glob(f"*.wants/{service.name}"))


def reload(service: Service) -> None:
    """Have the manager read its units again. Raises `ServiceFailedError`."""
    _manage(service, "daemon-reload")


def _remedy(service: Service) -> str:
    if service.is_systemd:
        return f"move the changes into {drop_ins_of(service)}, remove the file, and run mosaic-gateway install"
    return "remove it and run mosaic-gateway install for a fresh one"


def unregister(service: Service, home: Home) -> list[str]:
    """Stop and disable *service* and remove its file; return what is worth saying.

    What a person changed stays beside it. Does nothing where the file is not there or not for *home*. Raises OSError.
    """
    present = present_text(service)
    if present is None or not is_for_home(present, home):
        return []
    _forget(service)
    notes = []
    if is_unchanged(present):
        remove_file(service.file)
    else:
        aside = service.file.with_name(f"{service.file.name}{ASIDE}")
        service.file.rename(aside)
        notes.append(f"{service.file} had been changed by hand and is {aside} now")
    with suppress(ServiceFailedError):
        reload(service)
    if drop_ins_of(service).exists():
        notes.append(f"your own settings stay in {drop_ins_of(service)}")
    return notes


def _forget(service: Service) -> None:
    """Have the manager stop it and start it no more; also where the manager is not there."""
    if not service.is_systemd:
        for words in stop_commands(service):
            with suppress(CommandFailedError):
                run(words, timeout=LIMIT)
        return
    with suppress(ServiceFailedError):
        _manage(service, "disable", "--now", service.name)
    for link in service.file.parent.glob(f"*.wants/{service.name}"):
        if link.is_symlink():
            remove_file(link)
            with suppress(OSError):  # others are wanted, too
                link.parent.rmdir()


def _manage(service: Service, *words: str) -> None:
    if not service.is_systemd:
        return
    try:
        run([*service.systemctl, *words], timeout=LIMIT)
    except CommandFailedError as error:
        raise ServiceFailedError(
            f"systemd refused the unit {service.name}: {error.message}",
            hint="Install with --no-service, and let a supervisor of your own run mosaic-gateway serve.",
        ) from error
