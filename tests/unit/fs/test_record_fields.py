"""Checks of record fields: valid and invalid values, and errors that name the file and the field."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from tests.unit.planted import PLANTED, within

from mosaic_gateway.fs.record_fields import (
    BACKUP_NAME,
    INSTANCE_ID,
    VERSION,
    Check,
    Field,
    RecordError,
    UnreadableRecordError,
    any_text,
    boolean,
    checked_record,
    choice,
    digest,
    entries,
    integer,
    integer_between,
    mapping,
    matching,
    member,
    nested,
    number,
    optional,
    path_text,
    read_content,
    read_record,
    record_errors_for,
    relative_path,
    row,
    text,
    timestamp,
)

FILE = Path("/home/of/record.json")


class Colour(StrEnum):
    """An enumeration for the tests."""

    RED = "red"
    BLUE = "blue"


PAIR = {"a": Field(integer), "b": Field(text, "none")}
CHECKS: dict[str, tuple[Check, list[Any], list[Any]]] = {
    "text": (text, ["", "ä b", "x" * 4096], [None, 1, [], {}, "a\nb", "a\0b", "\x1b[2J", "\ud800", "x" * 4097]),
    "any_text": (any_text, ["", "a\nb"], [None, 1, [], {}, b"x"]),
    "boolean": (boolean, [True, False], [None, 0, 1, "true", []]),
    "integer": (integer, [0, 1, 2**64 - 1], [None, True, -1, 2**64, 1.0, "1", []]),
    "integer_between": (integer_between(1, 9), [1, 9], [0, 10, True, 1.5, "1", None]),
    "number": (number, [0, 1.5, 10**9], [None, True, -0.5, float("nan"), float("inf"), 2.0**64, "1", []]),
    "matching": (
        matching(INSTANCE_ID, "an id"),
        ["0123456789abcdef"],
        ["/../sshd", "0" * 17, "0" * 15 + "\n", 1, None],
    ),
    "version": (
        matching(VERSION, "a version"),
        ["0.1.0", "1.0rc1.post1.dev2+local.1"],
        ["", "../1", "1.0\n", "1.0/", "v1", "1.0+a b", "1" * 5000],
    ),
    "backup": (
        matching(BACKUP_NAME, "a backup"),
        ["20261125T134500Z-0.1.0", "20261125T134500Z-0.1.0-2"],
        ["..", "../20261125T134500Z-0.1.0", "20261125T134500Z-0.1.0/..", "20261125T134500Z-", "latest"],
    ),
    "digest": (digest, ["0" * 64], ["", "0" * 63, "A" * 64, "0" * 65, None, 0]),
    "member": (member(Colour), ["red"], ["green", None, [], {}, 1]),
    "choice": (choice("a.b", "c"), ["a.b", "c"], ["axb", "", "a.bc", None, ["c"]]),
    "timestamp": (
        timestamp,
        ["2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00Z"],
        ["2026-01-01T00:00:00", "2026", "", "x" * 5000, None, 1, "2026-01-01T00:00:00+00:00\n"],
    ),
    "optional": (optional(integer), [None, 1], ["", False, -1]),
    "path_text": (
        path_text,
        ["/", "/a/b", "/ä", "/\udcff"],
        ["", "a", "/a/../b", "/..", "/a\0", "/\ud800", "/" * 4097, None, 1, ["/"]],
    ),
    "relative_path": (
        relative_path,
        ["a", "a/b", "...", "\udcff"],
        ["", ".", "..", "a/..", "../a", "/a", "a//b", "a/", "./a", "a\0", "\ud800", "a" * 4097, None, 1, ["a"]],
    ),
}
CONTAINERS: dict[str, tuple[Check, list[tuple[Any, Any]], list[Any]]] = {
    "entries": (entries(integer, most=2), [([], ()), ([1, 2], (1, 2))], [[1, 2, 3], ["x"], {}, "12", None]),
    "row": (row(text, integer), [(["a", 1], ("a", 1))], [["a"], ["a", 1, 2], [1, "a"], "a1", {"a": 1}, None]),
    "mapping": (
        mapping(relative_path, integer, most=2),
        [({}, {}), ({"a/b": 1}, {"a/b": 1})],
        [{"../a": 1}, {"a": "x"}, {"a": 1, "b": 2, "c": 3}, [], "a", None],
    ),
    "nested": (
        nested(PAIR),
        [({"a": 1}, {"a": 1, "b": "none"}), ({"a": 1, "b": "x", "c": 3}, {"a": 1, "b": "x"})],
        [{}, {"a": "1"}, {"a": 1, "b": 2}, [], None],
    ),
    "number": (number, [(1, 1.0)], []),
    "member": (member(Colour), [("blue", Colour.BLUE)], []),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (_, valid, _) in CHECKS.items() for value in valid]
)
def test_valid_values(name: str, value: Any) -> None:
    """A valid value is returned unchanged."""
    assert CHECKS[name][0](value) == value


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (_, _, invalid) in CHECKS.items() for value in invalid]
)
def test_invalid_values(name: str, value: Any) -> None:
    """An invalid value of any type is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - each check has its own text
        CHECKS[name][0](value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, (_, valid, _) in CONTAINERS.items() for value, expected in valid],
)
def test_valid_containers(name: str, value: Any, expected: Any) -> None:
    """A valid container is returned in its converted form."""
    assert CONTAINERS[name][0](value) == expected


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (_, _, invalid) in CONTAINERS.items() for value in invalid]
)
def test_invalid_containers(name: str, value: Any) -> None:
    """A container with one invalid value is invalid."""
    with pytest.raises(ValueError):  # noqa: PT011 - each check has its own text
        CONTAINERS[name][0](value)


def test_fields_of_a_record() -> None:
    """Unknown keys are ignored, and missing fields have their default."""
    assert checked_record(FILE, {"a": 1, "c": 2}, PAIR) == {"a": 1, "b": "none"}


@pytest.mark.parametrize(
    ("value", "field", "why"),
    [
        ({}, "a", "missing"),
        ({"a": -1}, "a", "integer"),
        ({"a": 1, "b": []}, "b", "string"),
        ([], "", "object"),
        (None, "", "object"),
    ],
)
def test_an_error_names_file_and_field(value: Any, field: str, why: str) -> None:
    """The message and the details contain both."""
    with pytest.raises(RecordError, match=why) as caught:
        checked_record(FILE, value, PAIR, hint="Repair it.")
    assert str(FILE) in caught.value.message
    assert repr(field) in caught.value.message or not field
    assert caught.value.details == {"file": str(FILE), "field": field}
    assert (caught.value.code, caught.value.hint, caught.value.exit_code) == ("RECORD_INVALID", "Repair it.", 7)


def test_an_error_in_a_nested_object_names_its_field() -> None:
    """An error in an object within a record names the field of the object as well."""
    with pytest.raises(RecordError, match=r"'outer'.*b: it must be a string"):
        checked_record(FILE, {"outer": {"a": 1, "b": 1}}, {"outer": Field(nested(PAIR))})


@pytest.mark.parametrize("kind", PLANTED)
def test_unusable_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is not a regular file, too large or not a JSON object is an error that names the file."""
    monkeypatch.chdir(tmp_path)
    PLANTED[kind](tmp_path / "record")
    with pytest.raises(RecordError, match="record"):
        within(lambda: read_record(tmp_path / "record", {"a": Field(text)}))


def test_a_record_on_disk(tmp_path: Path) -> None:
    """A valid record is read; a missing file is a FileNotFoundError or NotADirectoryError."""
    (tmp_path / "record").write_text(json.dumps({"a": 1}))
    assert read_record(tmp_path / "record", PAIR) == {"a": 1, "b": "none"}
    for path in (tmp_path / "missing", tmp_path / "record" / "below"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            read_record(path, PAIR)
    with pytest.raises(RecordError, match="larger than 3 bytes"):
        read_record(tmp_path / "record", PAIR, limit=3)


def test_an_unreadable_file() -> None:
    """Permission denied is an error of its own, different from an invalid record; other errors are not translated."""
    with pytest.raises(UnreadableRecordError, match="no permission"), record_errors_for(FILE):
        raise PermissionError(13, "Permission denied", str(FILE))
    with pytest.raises(OSError, match="No space"), record_errors_for(FILE):
        raise OSError(28, "No space left on device", str(FILE))


def test_content(tmp_path: Path) -> None:
    """Content that is not JSON is read with the same checks of the file."""
    (tmp_path / "file").write_bytes(b"\xff")
    assert read_content(tmp_path / "file") == b"\xff"
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(RecordError, match=r"link.*symbolic link"):
        read_content(tmp_path / "link")
