"""Files and directories of an installation.

- Read and write files: `read_regular`, `read_json` and `open_regular` accept regular files only, up to a size;
  `write_file` replaces a file as a whole; `make_directory`, `remove_file`.
- Directories that appear as a whole: `staged`, `temporary`, `remove_tree`, `remove_temporaries`.
- Set files aside, put them back, delete them: `set_aside`, `lying_aside`, `put_back`, `erase`, `require_erased`.
- Copy and flush: `copy_range`, `flush_tree`, `sync_directory`.
- Records: `record_fields` has a check for each kind of field of a JSON record, `RecordFormat` the number of its form.
- Compare with recorded digests: `is_as_recorded`, `altered_files_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.fs import record_fields
    from mosaic_gateway.fs.aside import Aside, Reason, erase, lying_aside, put_back, require_erased, set_aside
    from mosaic_gateway.fs.copying import UNSUPPORTED, copy_range, flush_tree
    from mosaic_gateway.fs.files import (
        LARGE,
        SMALL,
        NotARegularFileError,
        TooLargeError,
        make_directory,
        open_descriptor,
        open_regular,
        parse_json,
        parse_toml,
        read_json,
        read_regular,
        remove_file,
        write_file,
    )
    from mosaic_gateway.fs.permissions import access_denied, is_denied, not_permitted, user_name
    from mosaic_gateway.fs.record_format import LaterSchemaError, RecordFormat
    from mosaic_gateway.fs.recorded_digests import altered_files_of, is_as_recorded, recorded_files, recorded_hash
    from mosaic_gateway.fs.staging import (
        TEMPORARY,
        open_directory_to_owner,
        remove_temporaries,
        remove_tree,
        staged,
        sync_directory,
        temporaries,
        temporary,
        temporary_sibling,
    )
else:
    __getattr__ = lazy_names(
        __name__,
        "record_fields",
        aside="Aside Reason erase lying_aside put_back require_erased set_aside",
        copying="UNSUPPORTED copy_range flush_tree",
        files=(
            "LARGE SMALL NotARegularFileError TooLargeError make_directory open_descriptor open_regular "
            "parse_json parse_toml read_json read_regular remove_file write_file"
        ),
        permissions="access_denied is_denied not_permitted user_name",
        record_format="LaterSchemaError RecordFormat",
        recorded_digests="altered_files_of is_as_recorded recorded_files recorded_hash",
        staging=(
            "TEMPORARY open_directory_to_owner remove_temporaries remove_tree staged sync_directory temporaries "
            "temporary temporary_sibling"
        ),
    )

__all__ = [
    "LARGE",
    "SMALL",
    "TEMPORARY",
    "UNSUPPORTED",
    "Aside",
    "LaterSchemaError",
    "NotARegularFileError",
    "Reason",
    "RecordFormat",
    "TooLargeError",
    "access_denied",
    "altered_files_of",
    "copy_range",
    "erase",
    "flush_tree",
    "is_as_recorded",
    "is_denied",
    "lying_aside",
    "make_directory",
    "not_permitted",
    "open_descriptor",
    "open_directory_to_owner",
    "open_regular",
    "parse_json",
    "parse_toml",
    "put_back",
    "read_json",
    "read_regular",
    "record_fields",
    "recorded_files",
    "recorded_hash",
    "remove_file",
    "remove_temporaries",
    "remove_tree",
    "require_erased",
    "set_aside",
    "staged",
    "sync_directory",
    "temporaries",
    "temporary",
    "temporary_sibling",
    "user_name",
    "write_file",
]
