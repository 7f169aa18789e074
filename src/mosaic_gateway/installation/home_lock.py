"""The lock that allows one modifying verb at a time in a home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.installation.layout import Home, check_layout
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.file_lock import FileLock, FileLockHolder, holder_of

__all__ = ["HomeBusyError", "forget_lock", "home_locked", "naming_lock_holder"]


class HomeBusyError(BusyError):
    """Another process is modifying this installation; the message names its pid and verb."""

    code = "HOME_BUSY"


@contextmanager
def home_locked(home: Home, verb: str, *, removing: bool = False) -> Iterator[None]:
    """Hold the lock of the existing *home* inside the block; *removing*: see `check_layout`.

    Raises `HomeOwnerError`, `HomeLayoutError`, `HomeBusyError`, OSError.
    """
    check_owner(home.path)
    check_layout(home, removing=removing)
    lock = FileLock(home.lock)
    if not lock.acquire(verb=verb):
        raise _busy(home, holder_of(home.lock))
    try:
        yield
    finally:
        lock.release()


@contextmanager
def naming_lock_holder(home: Home) -> Iterator[None]:
    """Replace an error raised in the block by `HomeBusyError` if another process holds the lock of *home*.

    That process is then the likely cause of the error.
    """
    try:
        yield
    except MosaicError as error:
        holder = None
        with suppress(OSError):  # the home itself may be the cause of the error
            holder = holder_of(home.lock)
        if holder is not None:
            raise _busy(home, holder) from error
        raise


def forget_lock(home: Home) -> None:
    """Remove the lock file of a home that is being deleted. Only the holder of the lock may call this."""
    with suppress(FileNotFoundError):
        home.lock.unlink()


def _busy(home: Home, holder: FileLockHolder | None) -> HomeBusyError:
    who = f"process {holder.pid} ({holder.facts.get('verb', 'unknown')})" if holder else "another process"
    return HomeBusyError(
        f"{home.path} is being changed by {who}",
        hint="Wait until it exits, then run the command again.",
        details={"pid": holder.pid, "verb": holder.facts.get("verb")} if holder else {},
    )
