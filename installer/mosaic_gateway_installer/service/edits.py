"""Converts edits of a systemd unit file to a drop-in with the same effect. Pure.

systemd reads drop-ins after the unit, so the new unit and the drop-in together have the effect of the edited unit if
settings were only changed or added. Other edits must be moved by the user.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["as_drop_in"]

HEADER = "# Moved here by mosaic-gateway from the unit file, which was edited by hand.\n"
#: List settings: the drop-in must reset the list before it assigns the values.
LISTS = frozenset({
    "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload", "Environment",
    "EnvironmentFile", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "RestartPreventExitStatus",
    "SuccessExitStatus", "RestrictAddressFamilies", "CapabilityBoundingSet", "AmbientCapabilities",
    "SystemCallFilter", "SupplementaryGroups", "BindPaths", "BindReadOnlyPaths",
})  # fmt: skip
#: Sections whose settings a drop-in can override, except for dependencies, which cannot be reset.
SECTIONS = ("Unit", "Service")
Settings = dict[str, dict[str, list[str]]]


def as_drop_in(written: str, changed: str) -> str | None:
    """Return the differences of *changed* from *written* as a drop-in; None if a drop-in cannot express them."""
    before, after = _parsed(written), _parsed(changed)
    if before is None or after is None:
        return None
    sections = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, {}), after.get(name, {})
        different = {key: new.get(key) for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)}
        if not different:
            continue
        if name not in SECTIONS or any(values is None for values in different.values()):
            return None
        sections.append(f"\n[{name}]\n" + "".join(_lines(key, old, values or []) for key, values in different.items()))
    return HEADER + "".join(sections)


def _lines(key: str, old: Mapping[str, list[str]], values: list[str]) -> str:
    emptied = f"{key}=\n" if key in LISTS and key in old else ""
    return emptied + "".join(f"{key}={value}\n" for value in values)


def _parsed(text: str) -> Settings | None:
    """Return section → setting → values; None if *text* is not a valid unit file."""
    settings: Settings = {}
    section = ""
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            settings.setdefault(section, {})
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            return None
        settings[section].setdefault(key.strip(), []).append(value.strip())
    return settings
