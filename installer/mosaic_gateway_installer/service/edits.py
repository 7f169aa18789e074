"""A person's changes of a unit file, as a drop-in that says the same. Pure.

systemd reads drop-ins after the unit, so the new unit and the drop-in together mean what the changed unit meant, as
long as only settings were changed or added whose last value counts. Anything else is for a person to move.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["as_drop_in"]

HEADER = "# Moved here by mosaic-gateway from the unit file, which somebody had changed.\n"
#: Settings that add up: the drop-in must empty the list before it says what was wanted.
LISTS = frozenset({
    "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload", "Environment",
    "EnvironmentFile", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "RestartPreventExitStatus",
    "SuccessExitStatus", "RestrictAddressFamilies", "CapabilityBoundingSet", "AmbientCapabilities",
    "SystemCallFilter", "SupplementaryGroups", "BindPaths", "BindReadOnlyPaths",
})  # fmt: skip
#: Sections in which drop-ins can say all that a unit can, but for dependencies, which never go away again.
SECTIONS = ("Unit", "Service")
Settings = dict[str, dict[str, list[str]]]


def as_drop_in(written: str, changed: str) -> str | None:
    """Return what *changed* says beyond *written* as a drop-in; None where a drop-in cannot say it."""
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
    """Return section → setting → values; None for what is no plain unit file."""
    found: Settings = {}
    section = ""
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            found.setdefault(section, {})
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            return None
        found[section].setdefault(key.strip(), []).append(value.strip())
    return found
