"""Installs and removes a unit file without losing edits that a user has written into it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.gateway.control import is_for_home, stop_commands
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import Home, Service
from mosaic_gateway.process import CommandFailedError, run
from mosaic_gateway_installer.service.unit_file import is_unchanged

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
ASIDE = ".changed-by-hand"


class ServiceFailedError(PreflightError):
    """The service manager did not accept the unit."""

    code = "SERVICE_FAILED"


class UnitForeignError(RefusedError):
    """A unit of that name exists, and it belongs to another home or program."""

    code = "SERVICE_FOREIGN"


def drop_ins_of(service: Service) -> Path:
    """Return the drop-in directory of *service*."""
    return service.file.with_name(f"{service.file.name}.d")


def present_text(service: Service) -> str | None:
    """Return the content of the unit file, None if there is none. Raises OSError."""
    try:
        return fs.read_regular(service.file).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def is_in_place(service: Service, home: Home) -> bool:
    """Return whether the unit is installed, or one for *home* that was edited by hand. Raises OSError."""
    present = present_text(service)
    if present is None:
        return False
    return present == service.text or (is_for_home(present, home) and not is_unchanged(present))


def register(service: Service, home: Home) -> list[Text]:
    """Write the unit and enable it; return notes for the user. A unit that was edited by hand is left as it is.

    Raises `UnitForeignError`, `ServiceFailedError`, OSError.
    """
    present = present_text(service)
    notes: list[Text] = []
    if present is not None and not is_for_home(present, home):
        raise UnitForeignError(
            f"{service.file} is not a unit of {home.path}",
            hint="Nothing was changed. Move that file elsewhere, or install with --no-service.",
        )
    fs.make_directory(service.file.parent, 0o755)
    if present is None or is_unchanged(present):
        fs.write_file(service.file, service.text, READABLE)
    else:
        notes.append(f"{service.file} was edited by hand and is left unchanged: " + _remedy(service))
    reload(service)
    enable(service)
    return notes


def enable(service: Service) -> None:
    """Enable the unit (``systemctl enable``). Raises `ServiceFailedError`."""
    _manage(service, "enable", service.name)


def is_enabled(service: Service) -> bool:
    """Return whether the unit is enabled; launchd jobs always are.

    This reads the links that ``systemctl enable`` creates, because without a message bus systemd answers only root.
    """
    return not service.is_systemd or any(service.file.parent.glob(f"*.wants/{service.name}"))


def reload(service: Service) -> None:
    """Reload the unit files (``systemctl daemon-reload``). Raises `ServiceFailedError`."""
    _manage(service, "daemon-reload")


def _remedy(service: Service) -> Text:
    if service.is_systemd:
        return f"move the edits to {drop_ins_of(service)}, remove the file, and run " + command("install")
    return "to replace it, remove it and run " + command("install")


def unregister(service: Service, home: Home) -> list[str]:
    """Stop and disable *service* and remove its file; return lines for the output.

    An edited file is renamed instead. Does nothing if the file does not exist or is not for *home*. Raises OSError.
    """
    present = present_text(service)
    if present is None or not is_for_home(present, home):
        return []
    _disable(service)
    notes = []
    if is_unchanged(present):
        fs.remove_file(service.file)
    else:
        aside = service.file.with_name(f"{service.file.name}{ASIDE}")
        service.file.rename(aside)
        notes.append(f"{service.file} was edited by hand and was renamed to {aside}")
    with suppress(ServiceFailedError):
        reload(service)
    if drop_ins_of(service).exists():
        notes.append(f"drop-ins were not removed: {drop_ins_of(service)}")
    return notes


def _disable(service: Service) -> None:
    """Stop and disable the unit; works without a running manager, too."""
    if not service.is_systemd:
        for words in stop_commands(service):
            with suppress(CommandFailedError):
                run(words, timeout=LIMIT)
        return
    with suppress(ServiceFailedError):
        _manage(service, "disable", "--now", service.name)
    for link in service.file.parent.glob(f"*.wants/{service.name}"):
        if link.is_symlink():
            fs.remove_file(link)
            with suppress(OSError):  # not empty: other units are enabled, too
                link.parent.rmdir()


def _manage(service: Service, *words: str) -> None:
    if not service.is_systemd:
        return
    try:
        run([*service.systemctl, *words], timeout=LIMIT)
    except CommandFailedError as error:
        raise ServiceFailedError(
            f"systemd refused the unit {service.name}: {error.message}",
            hint="Install with --no-service, and run " + command("serve") + " under another supervisor.",
        ) from error
