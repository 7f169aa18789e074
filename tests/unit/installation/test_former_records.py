"""Records that two versions share: files that version 0.1.0 wrote (``records/``), and its code reading the present."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation import machine_record, receipt, upgrade_state
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup import manifest
from mosaic_gateway_installer.upgrade import last_upgrade, major_version

WRITTEN = Path(__file__).with_name("records")
WHEEL = Path(__file__).parents[2] / "lifecycle" / "former" / "mosaic_gateway-0.1.0-py3-none-any.whl"
BACKUP = "backups/20261125T134500Z-0.1.0"
OWNER = Path("/var/lib/gateways/a")


@dataclass(frozen=True)
class Kind:
    """A kind of record: its file, its schema number's key, how this version reads and writes it, how 0.1.0 reads it."""

    path: str
    key: str
    read: Callable[[Home], Any]
    write: Callable[[Home, Any], None]
    former: str


KINDS = {
    "receipt": Kind(
        "receipt.json", "receipt", receipt.read_receipt, receipt.write_receipt,
        "from mosaic_gateway_installer.receipt import read_receipt as read",
    ),
    "upgrade": Kind(
        "upgrade.json", "schema", upgrade_state.read_mark, upgrade_state.write_mark,
        "from mosaic_gateway.gateway.upgrade_mark import read_mark as read",
    ),
    "last-upgrade": Kind(
        "last-upgrade.json", "schema", last_upgrade.read_last, last_upgrade.write_last,
        "from mosaic_gateway_installer.upgrading.last import read_last as read",
    ),
    "major-upgrade": Kind(
        "data/.major-upgrade.json", "schema", major_version.read_record, major_version.write_record,
        "from mosaic_gateway_installer.majors import read_record as read",
    ),
    "manifest": Kind(
        f"{BACKUP}/manifest.json", "backup",
        lambda home: manifest.read_manifest(home.path / BACKUP),
        lambda home, value: manifest.write_manifest(home.path / BACKUP, value),
        "from mosaic_gateway_installer.backups.manifest import read_manifest\n"
        f"read = lambda home: read_manifest(home.path / {BACKUP!r})",
    ),
    "machine-record": Kind(
        f"etc/{machine_record.record_file(OWNER).name}", "record",
        lambda _home: machine_record.read_machine_record(OWNER),
        lambda _home, value: machine_record.write_machine_record(value),
        "from pathlib import Path\n"
        "from mosaic_gateway.installation import machine_record\n"
        "def read(home):\n"
        "    machine_record.DIRECTORY = home.path / 'etc'\n"
        f"    return machine_record.read_machine_record(Path({str(OWNER)!r}))",
    ),
}  # fmt: skip
#: Keys that this version adds, with their values in a record without them.
ADDED: dict[str, dict[str, Any]] = {"receipt": {"command": None}}
ADVISORY = ("last-upgrade", "major-upgrade")
NAMES = [pytest.param(name, marks=[pytest.mark.root] if name == "machine-record" else []) for name in KINDS]
FORMER = (
    "import sys, pathlib\nfrom mosaic_gateway.config import Home\n"
    "{former}\nprint(read(Home(pathlib.Path(sys.argv[1]))))"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with each record as version 0.1.0 wrote it."""
    monkeypatch.setattr(machine_record, "DIRECTORY", tmp_path / "home" / "etc")
    for name, kind in KINDS.items():
        file = tmp_path / "home" / kind.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((WRITTEN / f"{name}.json").read_bytes())
    return Home(tmp_path / "home")


def content(home: Home, kind: Kind) -> dict[str, Any]:
    """Return the record as it is on disk."""
    value: dict[str, Any] = json.loads((home.path / kind.path).read_text())
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_the_former_version_is_read_and_written_back(home: Home, name: str) -> None:
    """Every key and value stays as it was; only a schema number and the keys of this version may be new."""
    kind = KINDS[name]
    before = content(home, kind)
    value = kind.read(home)
    assert value is not None
    kind.write(home, value)
    assert content(home, kind) == {**({kind.key: 1} if name in ADVISORY else {}), **ADDED.get(name, {}), **before}
    assert kind.read(home) == value


@pytest.mark.parametrize("name", NAMES)
def test_unknown_keys_survive_a_change(home: Home, name: str) -> None:
    """What a later version added is ignored, and written back by this one."""
    kind = KINDS[name]
    later = {**content(home, kind), "added_later": {"a": [1, "x"]}}
    (home.path / kind.path).write_text(json.dumps(later))
    kind.write(home, replace(kind.read(home)))
    assert content(home, kind)["added_later"] == {"a": [1, "x"]}


@pytest.mark.parametrize("name", ADVISORY)
def test_a_later_schema_of_what_only_advises_counts_as_absent(home: Home, name: str) -> None:
    """It is not read as this one's, and no error stops the verb."""
    kind = KINDS[name]
    (home.path / kind.path).write_text(json.dumps({**content(home, kind), kind.key: 2}))
    assert kind.read(home) is None


@pytest.mark.parametrize("name", [name for name in NAMES if name.values[0] not in ADVISORY])
def test_a_later_schema_is_not_taken_for_this_one(home: Home, name: str) -> None:
    """The error says so, without a word of damage."""
    kind = KINDS[name]
    (home.path / kind.path).write_text(json.dumps({**content(home, kind), kind.key: 2}))
    with pytest.raises(MosaicError) as caught:
        kind.read(home)
    assert caught.value.code in {"RECORD_OF_LATER_VERSION", "UPGRADE_UNFINISHED", "BACKUP_UNREADABLE"}
    assert "version" in str(caught.value.hint)
    assert "backup" not in str(caught.value.hint).lower()


@pytest.mark.parametrize("name", NAMES)
def test_the_former_version_reads_what_this_one_writes(home: Home, name: str) -> None:
    """Its own code, from its wheel: it runs again after a reverted upgrade."""
    kind = KINDS[name]
    former = subprocess.run(
        [sys.executable, "-P", "-c", FORMER.format(former=kind.former), home.path],
        env={"PYTHONPATH": str(WHEEL)}, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    kind.write(home, kind.read(home))
    again = subprocess.run(
        [sys.executable, "-P", "-c", FORMER.format(former=kind.former), home.path],
        env={"PYTHONPATH": str(WHEEL)}, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert former == again
    assert former.strip() not in {"", "None"}
