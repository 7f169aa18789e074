"""The record of the last run of ``doctor`` in a home, from which the console displays its findings.

A file in ``run``: it is not part of a backup, and an uninstall removes it with the other records there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.record_fields import Field, RecordError, any_text, entries, nested, timestamp
from mosaic_gateway.fs.record_format import RecordFormat
from mosaic_gateway.installation.layout import Home

__all__ = ["DoctorRecord", "read_doctor_record", "write_doctor_record"]

#: The fields of a finding that are recorded. What a fix changed is not: it may contain a set-up link.
FINDING = {name: Field(any_text, "") for name in ("check", "level", "message", "code", "hint")}
MOST_FINDINGS = 500
FORMAT = RecordFormat(
    fields={"ran_at": Field(timestamp), "findings": Field(entries(nested(FINDING), most=MOST_FINDINGS))}
)


@dataclass(frozen=True, slots=True)
class DoctorRecord:
    """``ran_at`` is UTC (ISO 8601). A finding has the texts check, level, message, code and hint."""

    ran_at: str
    findings: tuple[Mapping[str, str], ...]


def write_doctor_record(home: Home, findings: Sequence[Mapping[str, Any]]) -> None:
    """Record that ``doctor`` found *findings* now, if *home* has the directory of such records. Raises OSError."""
    if home.run.is_dir():
        recorded = [{name: str(finding.get(name, "")) for name in FINDING} for finding in findings]
        FORMAT.write(_file(home), {"ran_at": datetime.now(UTC).isoformat(timespec="seconds"), "findings": recorded})


def read_doctor_record(home: Home) -> DoctorRecord | None:
    """Return the record of the last run, None if there is none or it cannot be read."""
    try:
        value = FORMAT.read(_file(home))
    except (OSError, RecordError):
        return None
    return DoctorRecord(value["ran_at"], value["findings"])


def _file(home: Home) -> Path:
    return home.run / "doctor.json"
