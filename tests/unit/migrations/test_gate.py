from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations import gate
from mosaic_gateway.migrations.bundle import Bundle, BundleError
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, BundleFault, Problem, check_bundle, make_lock

SQL = {"0000_a.sql": b"CREATE TABLE a ();\n", "0001_b.sql": "-- ü\n".encode()}


def _journal(*tags: str) -> bytes:
    entries = [
        {"idx": i, "version": "7", "when": 1000 + i, "tag": tag, "breakpoints": True} for i, tag in enumerate(tags)
    ]
    return json.dumps({"version": "7", "dialect": "postgresql", "entries": entries}).encode()


def _bundle(**changes: bytes | None) -> dict[str, bytes]:
    """Return a bundle of two migrations with its lock; *changes* are applied after locking, None removes a file."""
    files = {**SQL, JOURNAL_NAME: _journal("0000_a", "0001_b")}
    files[LOCK_NAME] = make_lock("gateway", files)
    changed = {**files, **changes}
    return {name: data for name, data in changed.items() if data is not None}


def _faults(files: dict[str, bytes]) -> set[tuple[Problem, str]]:
    return {(finding.problem, finding.name) for finding in check_bundle("gateway", files)}


def test_valid_bundle_has_no_faults() -> None:
    """A bundle that matches its lock has no faults."""
    assert check_bundle("gateway", _bundle()) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"0001_b.sql": b"-- u\n"}, {(Problem.ALTERED, "0001_b.sql")}),
        ({"0001_b.sql": "-- ü\r\n".encode()}, {(Problem.ALTERED, "0001_b.sql")}),
        ({"0001_b.sql": None}, {(Problem.MISSING, "0001_b.sql"), (Problem.JOURNAL_WITHOUT_FILE, "0001_b.sql")}),
        ({"0002_c.sql": b""}, {(Problem.EXTRA, "0002_c.sql"), (Problem.FILE_WITHOUT_JOURNAL, "0002_c.sql")}),
        ({"0000_a.sql~": b""}, {(Problem.EXTRA, "0000_a.sql~")}),
        ({"old/a.sql": b""}, {(Problem.EXTRA, "old/a.sql"), (Problem.FILE_WITHOUT_JOURNAL, "old/a.sql")}),
        ({LOCK_NAME: None}, {(Problem.NO_LOCK, LOCK_NAME)}),
        ({JOURNAL_NAME: None}, {(Problem.MISSING, JOURNAL_NAME), (Problem.BAD_JOURNAL, JOURNAL_NAME)}),
        ({JOURNAL_NAME: b"{"}, {(Problem.ALTERED, JOURNAL_NAME), (Problem.BAD_JOURNAL, JOURNAL_NAME)}),
    ],
)  # fmt: skip
def test_fault_is_found(change: dict[str, bytes | None], expected: set[tuple[Problem, str]]) -> None:
    """Exactly the differences between a bundle and its lock are reported."""
    assert _faults(_bundle(**change)) == expected


@pytest.mark.parametrize("files", [{}, {LOCK_NAME: make_lock("gateway", {})}], ids=["nothing", "empty lock"])
def test_bundle_without_sql_is_empty(files: dict[str, bytes]) -> None:
    """A bundle without SQL is faulty even if its lock lists none."""
    assert (Problem.EMPTY, "gateway") in _faults(files)


def test_journal_entry_without_file_is_found_with_a_matching_lock() -> None:
    """A lock that was updated after a migration file was lost does not hide the loss."""
    files = {"0000_a.sql": SQL["0000_a.sql"], JOURNAL_NAME: _journal("0000_a", "0001_b")}
    files[LOCK_NAME] = make_lock("gateway", files)

    assert _faults(files) == {(Problem.JOURNAL_WITHOUT_FILE, "0001_b.sql")}


def test_file_without_journal_entry_is_found_with_a_matching_lock() -> None:
    """A migration file that has no journal entry, and so would never run, is reported."""
    files = {**SQL, JOURNAL_NAME: _journal("0000_a")}
    files[LOCK_NAME] = make_lock("gateway", files)

    assert _faults(files) == {(Problem.FILE_WITHOUT_JOURNAL, "0001_b.sql")}


@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version": 2, "bundle": "gateway", "files": {}}', "version is 2"),
        (b'{"version": 1, "bundle": "storage", "files": {}}', "belongs to the bundle 'storage'"),
        (b'{"version": 1, "bundle": "gateway"}', "not names with SHA-256 hashes"),
        (b'{"version": 1, "bundle": "gateway", "files": {"a.sql": "ABC"}}', "not names with SHA-256 hashes"),
    ],
)
def test_invalid_lock_is_a_fault(lock: bytes, reason: str) -> None:
    """A damaged lock, or that of another bundle, is reported with the reason."""
    [finding] = check_bundle("gateway", _bundle(**{LOCK_NAME: lock}))

    assert finding.problem is Problem.BAD_LOCK
    assert reason in str(finding)


@pytest.mark.parametrize(
    ("journal", "reason"),
    [
        (b"[]", "not a JSON object"),
        (b'{"entries": {}}', "no list of entries"),
        (b'{"entries": [1]}', "entry 0 has no usable tag"),
        (b'{"entries": [{"tag": "../x"}]}', "entry 0 has no usable tag"),
        (_journal("0000_a", "0000_a"), "two entries have the tag 0000_a"),
    ],
)
def test_invalid_journal_is_a_fault(journal: bytes, reason: str) -> None:
    """An invalid journal, or one with a duplicate tag, is reported with the reason."""
    files = {**SQL, JOURNAL_NAME: journal}
    files[LOCK_NAME] = make_lock("gateway", files)

    [finding] = check_bundle("gateway", files)

    assert finding.problem is Problem.BAD_JOURNAL
    assert reason in str(finding)


@settings(database=None, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_a_fault(data: st.DataObject) -> None:
    """A change of any byte of a migration or the journal is reported."""
    files = _bundle()
    name = data.draw(st.sampled_from(sorted({*SQL, JOURNAL_NAME})))
    place = data.draw(st.integers(0, len(files[name]) - 1))
    content = bytearray(files[name])
    content[place] ^= data.draw(st.integers(1, 255))

    assert check_bundle("gateway", {**files, name: bytes(content)})


def test_lock_is_canonical() -> None:
    """The lock is sorted JSON with a final newline, covers only SQL and journal, and is independent of input order."""
    files = _bundle(**{"x.sql~": b""})

    lock = make_lock("gateway", dict(reversed(files.items())))

    assert lock == make_lock("gateway", files)
    assert lock.endswith(b"}\n")
    assert json.loads(lock) == {
        "version": 1,
        "bundle": "gateway",
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in (*SQL, JOURNAL_NAME)},
    }


@pytest.mark.parametrize(("content", "reason"), [
    (b"\xff", "not UTF-8"), (b"\xef\xbb\xbf--", "byte order mark"), (b"SELECT 1;\0", "NUL byte"),
])  # fmt: skip
def test_what_no_server_can_run_is_neither_locked_nor_read(tmp_path: Path, content: bytes, reason: str) -> None:
    """The file is named. drizzle's hash of the first two would differ, too."""
    with pytest.raises(ValueError, match=f"0000_a.sql .*{reason}"):
        make_lock("gateway", {"0000_a.sql": content})
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "_journal.json").write_text('{"entries": [{"idx": 0, "when": 1, "tag": "0000_a"}]}')
    (tmp_path / "0000_a.sql").write_bytes(content)
    with pytest.raises(BundleError, match=f"0000_a.sql .*{reason}"):
        Bundle.from_directory(tmp_path)


def test_every_problem_has_a_sentence() -> None:
    """Each fault has a sentence, which names the file."""
    assert all("0000_a.sql" in str(BundleFault(problem, "0000_a.sql")) for problem in Problem)


def test_check_bundles_names_bundle_and_strays() -> None:
    """Faults are reported with their bundle, and SQL outside of the bundles is a fault."""
    valid = {f"gateway/{name}": data for name, data in _bundle().items()}

    faults = gate.check_bundles({**valid, "third/0000_a.sql": b"", "0000_b.sql": b""})

    assert "storage: there is no SQL file in storage" in faults
    assert faults[-2:] == ("0000_b.sql belongs to no bundle", "third/0000_a.sql belongs to no bundle")
    assert not any(fault.startswith("gateway") for fault in faults)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A bundle's directory without a lock."""
    for name, data in {**SQL, JOURNAL_NAME: _journal("0000_a", "0001_b")}.items():
        path = tmp_path / "gateway" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "gateway"


def test_command_writes_the_lock_and_says_what_changed(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run locks all files, the second changes nothing, the third updates the edited file."""
    assert gate.main([str(directory)]) == 0
    assert f"{directory}: added 0000_a.sql" in capsys.readouterr().out
    assert check_bundle("gateway", gate.read_directory(directory)) == ()

    assert gate.main([str(directory)]) == 0
    assert "up to date" in capsys.readouterr().out

    (directory / "0001_b.sql").write_bytes(b"-- edited\n")
    assert gate.main(["--check", str(directory)]) == 1
    assert "0001_b.sql differs" in capsys.readouterr().err
    assert gate.main([str(directory)]) == 0
    assert f"{directory}: changed 0001_b.sql" in capsys.readouterr().out


def test_command_does_not_lock_a_faulty_bundle(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults that a new lock would not fix are reported, and no lock is written."""
    (directory / "0002_c.sql").write_bytes(b"")

    assert gate.main([str(directory)]) == 1
    assert "0002_c.sql has no entry in the journal" in capsys.readouterr().err
    assert not (directory / LOCK_NAME).exists()


def test_command_refuses_a_path_that_is_not_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped directory name is a usage error."""
    assert gate.main(["--check", str(tmp_path / "gatewey")]) == 2
    assert "gatewey" in capsys.readouterr().err


def test_module_works_by_its_path_without_any_package(directory: Path) -> None:
    """The build hook can run the file with only the standard library."""
    command = [sys.executable, "-I", "-S", str(gate.__file__), "--check", str(directory)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert "the hash lock meta/hashes.lock.json is missing" in done.stderr
