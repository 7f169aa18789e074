"""Copying of file content with copy_file_range(2), or by reading and writing where that is not supported."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from mosaic_gateway.fs.flush import begin_flush

__all__ = ["UNSUPPORTED", "copy_range"]

CHUNK = 1 << 20  # bytes in memory
STEP = 32 << 20  # bytes of one copy_file_range(2) call; they are written to disk while the next are copied
#: The errors of FICLONE, copy_file_range(2), SEEK_DATA and link(2) where they are not supported.
UNSUPPORTED = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}


def copy_range(
    reader: int, writer: int, start: int, end: int, grown: Callable[[int], object] = lambda _size: None
) -> None:
    """Copy the bytes from *start* to *end* of one open file to the same place in another.

    *grown* is called with the position reached. A source that is truncated meanwhile ends the copy. Raises OSError.
    """
    while start < end:
        try:
            moved = os.copy_file_range(reader, writer, min(end - start, STEP), start, start)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
                raise
            moved = _copy_chunk(reader, writer, start, end)
        if moved == 0:  # the source was truncated meanwhile
            return
        if moved == STEP:  # a large file: start writing it to disk now, so that its fsync is short
            begin_flush(writer, start, moved)
        start += moved
        grown(start)


def _copy_chunk(reader: int, writer: int, start: int, end: int) -> int:
    data = os.pread(reader, min(end - start, CHUNK), start)
    written = 0
    while written < len(data):
        written += os.pwrite(writer, data[written:], start + written)
    return written
