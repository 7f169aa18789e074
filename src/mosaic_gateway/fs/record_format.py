"""Records that several versions of the program read and write: a schema number, checked fields, unknown keys retained.

A later version may add keys without changing the number: this version ignores them, and writes them back. It raises
the number only for a change that earlier versions cannot read; those then name the version to install.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.files import SMALL, write_file
from mosaic_gateway.fs.record_fields import Field, RecordError, checked_record, integer, read_object
from mosaic_gateway.hint import Text

__all__ = ["EXTRA", "LaterSchemaError", "RecordFormat"]

#: Key of the values under which unknown keys are returned, and expected back.
EXTRA = "extra"
INSTALL_LATER = "A later version wrote it. Install that version: pip install --upgrade mosaic-gateway"


class LaterSchemaError(RecordError):
    """A later version wrote the record, with a schema that this version cannot read."""

    code = "RECORD_OF_LATER_VERSION"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFormat:
    """The form of one kind of record, a JSON object in a file.

    ``number_key`` is the key of its schema number, ``schema`` the number that this version writes; a record without a
    number has number 1. With ``unnumbered`` number 1 is not written: version 0.1.0 refused unknown keys in that record.
    ``hint`` is the advice for a damaged record, ``limit`` the largest size in bytes.
    """

    fields: Mapping[str, Field]
    number_key: str = "schema"
    schema: int = 1
    unnumbered: bool = False
    hint: Text = ""
    limit: int = SMALL
    mode: int = field(default=0o600)

    def read(self, file: Path) -> dict[str, Any]:
        """Return the fields of the record in *file*, and under `EXTRA` a dict of the keys that are not among them.

        Raises FileNotFoundError, NotADirectoryError, RecordError, `LaterSchemaError`, OSError.
        """
        value = read_object(file, limit=self.limit, hint=self.hint)
        numbered = {self.number_key: Field(integer, 1)}
        if checked_record(file, value, numbered, hint=self.hint)[self.number_key] > self.schema:
            raise LaterSchemaError(file, self.number_key, "this version cannot read it", hint=INSTALL_LATER)
        found = checked_record(file, value, self.fields, hint=self.hint)
        known = {*self.fields, self.number_key}
        return {**found, EXTRA: {name: one for name, one in value.items() if name not in known}}

    def write(self, file: Path, values: Mapping[str, Any], *, indent: int | None = None) -> None:
        """Replace *file* with the record of *values*, in the form that `read` returns. Raises OSError."""
        extra = values.get(EXTRA, {})
        own = {name: one for name, one in values.items() if name != EXTRA}
        number = {} if self.unnumbered and self.schema == 1 else {self.number_key: self.schema}
        content = json.dumps({**extra, **number, **own}, indent=indent, default=str)
        write_file(file, content + "\n", self.mode)
