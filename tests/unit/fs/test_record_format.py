from __future__ import annotations

import json
from pathlib import Path

import pytest

from mosaic_gateway.fs.record_fields import Field, RecordError, integer
from mosaic_gateway.fs.record_format import EXTRA, LaterSchemaError, RecordFormat

FORMAT = RecordFormat(fields={"a": Field(integer), "b": Field(integer, 7)}, number_key="form")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a record."""
    return tmp_path / "record.json"


def test_unknown_keys_are_returned_and_written_back(file: Path) -> None:
    """A key that a later version added survives a change by this version."""
    file.write_text(json.dumps({"form": 1, "a": 1, "later": {"x": [1]}}))
    values = FORMAT.read(file)
    assert values == {"a": 1, "b": 7, EXTRA: {"later": {"x": [1]}}}
    FORMAT.write(file, {**values, "a": 2})
    assert json.loads(file.read_text()) == {"form": 1, "a": 2, "b": 7, "later": {"x": [1]}}


def test_a_known_key_wins_over_an_unknown_one(file: Path) -> None:
    """What was unknown when a record was read cannot replace a field of it."""
    FORMAT.write(file, {"a": 1, "b": 2, EXTRA: {"a": 9, "form": 9}})
    assert json.loads(file.read_text()) == {"form": 1, "a": 1, "b": 2}


def test_a_later_schema_is_refused_before_its_fields(file: Path) -> None:
    """The error names the version to install, whatever the fields are."""
    file.write_text(json.dumps({"form": 2, "a": "another type"}))
    with pytest.raises(LaterSchemaError) as caught:
        FORMAT.read(file)
    assert "pip install --upgrade" in str(caught.value.hint)
    assert str(file) in caught.value.message


def test_a_record_without_a_number_is_of_schema_1(file: Path) -> None:
    """Records of version 0.1.0 have no number where this one writes it."""
    file.write_text('{"a": 1}')
    assert FORMAT.read(file)["a"] == 1


@pytest.mark.parametrize("number", ["1", None, -1, 1.0, True])
def test_a_number_of_another_type_is_an_error(file: Path, number: object) -> None:
    """It is named like any other field."""
    file.write_text(json.dumps({"form": number, "a": 1}))
    with pytest.raises(RecordError, match="'form'"):
        FORMAT.read(file)


def test_an_unnumbered_record_has_a_number_from_2_on(file: Path) -> None:
    """Version 0.1.0 reads such a record as long as its schema is the first one."""
    for schema, expected in ((1, {"a": 1}), (2, {"a": 1, "form": 2})):
        form = RecordFormat(fields={"a": Field(integer)}, number_key="form", schema=schema, unnumbered=True)
        form.write(file, {"a": 1})
        assert json.loads(file.read_text()) == expected
        assert form.read(file)["a"] == 1
