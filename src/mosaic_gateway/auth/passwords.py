"""Password hashes in better-auth's format: ``salt:key``, both in lower-case hex, 161 characters.

The key is scrypt(N=16384, r=16, p=1, 64 bytes) of the NFKC-normalised UTF-8 password; the salt is the
hex text itself, not the bytes it stands for (better-auth ``crypto/password``). One hash costs about
120 ms and 32 MiB, so the gateway computes them through `Hasher`, which limits how many run at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from mosaic_gateway.auth.errors import PasswordTooLongError, PasswordTooShortError, TooBusyError

__all__ = [
    "MAX_LENGTH",
    "MIN_LENGTH",
    "Hasher",
    "check_length",
    "check_not_too_long",
    "hash_password",
    "verify_password",
]

MIN_LENGTH = 8  # UTF-16 code units, JavaScript's string length
MAX_LENGTH = 128
SALT_BYTES = 16
KEY_BYTES = 64
COST = 16384
BLOCK_SIZE = 16
PARALLELISM = 1
MAX_MEMORY = 67108864  # bytes; OpenSSL's default of 32 MiB is slightly too low for these parameters
STORED = re.compile(r"([^:]+):([0-9a-fA-F]{128})")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
HASHES_AT_ONCE = 2
WAITING = 32  # requests; about two seconds
WAITING_OF_SOURCE = 4
LAST_OF_ONE_UNIT = "\uffff"

P = ParamSpec("P")
T = TypeVar("T")


def check_length(password: str) -> None:
    """Raise `PasswordTooShortError` or `PasswordTooLongError` outside 8 to 128 UTF-16 code units."""
    if utf16_length(password) < MIN_LENGTH:
        raise PasswordTooShortError("Password too short", hint=f"Use at least {MIN_LENGTH} characters.")
    check_not_too_long(password)


def check_not_too_long(password: str) -> None:
    """Raise `PasswordTooLongError` above 128 UTF-16 code units (the only length check at sign-in)."""
    if utf16_length(password) > MAX_LENGTH:
        raise PasswordTooLongError("Password too long", hint=f"Use at most {MAX_LENGTH} characters.")


def hash_password(password: str) -> str:
    """Return ``salt:key`` for *password* with a new salt. Takes about 120 ms and 32 MiB; checks no length."""
    salt = secrets.token_hex(SALT_BYTES)
    return f"{salt}:{_derive(password, salt).hex()}"


def verify_password(stored: str | None, password: str) -> bool:
    """Return whether *stored* is a hash of *password*; the comparison takes constant time.

    A missing or malformed *stored* is False and costs one hash too, so that the response time does not reveal
    whether a user exists. Never raises.
    """
    match = STORED.fullmatch(stored or "")
    salt, expected = match.groups() if match else ("0" * 2 * SALT_BYTES, "")
    return hmac.compare_digest(_derive(password, salt).hex(), expected.lower())


def utf16_length(text: str) -> int:
    """Return the number of UTF-16 code units, JavaScript's length of *text*."""
    return len(text) + sum(character > LAST_OF_ONE_UNIT for character in text)


def _derive(password: str, salt: str) -> bytes:
    # A lone surrogate cannot be encoded; Node encodes U+FFFD instead.
    normal = LONE_SURROGATE.sub("\ufffd", unicodedata.normalize("NFKC", password))
    return hashlib.scrypt(
        normal.encode(),
        salt=LONE_SURROGATE.sub("\ufffd", salt).encode(),
        n=COST,
        r=BLOCK_SIZE,
        p=PARALLELISM,
        maxmem=MAX_MEMORY,
        dklen=KEY_BYTES,
    )


class Hasher:
    """Runs password hashing in threads, at most *at_once* hashes (32 MiB each) at a time.

    Theory of operation. Further requests wait, each source (an address) in a queue of its own; the sources take turns,
    and one source computes one hash at a time. So the requests of one source delay another by one hash at most. The
    queues are bounded. A caller that is cancelled while it waits leaves its queue; a hash that runs always completes.
    """

    def __init__(self, at_once: int = HASHES_AT_ONCE) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="password")
        self._free = at_once
        self._busy: set[str] = set()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of the next turn; none is empty

    async def run(self, source: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *work* in one of the threads and return its result, or raise its exception.

        Raises `TooBusyError` if too many requests wait already, or too many of *source*.
        """
        await self._turn(source)
        running = asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))
        running.add_done_callback(lambda done: self._finished(source, done))
        return await asyncio.shield(running)

    def close(self) -> None:
        """Refuse new hashes and cancel waiting ones; running ones finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, source: str) -> None:
        waiting = self._queues.get(source, deque())
        if len(waiting) >= WAITING_OF_SOURCE or sum(map(len, self._queues.values())) >= WAITING:
            raise TooBusyError("Too many passwords are being checked at the moment; try again")
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(source, waiting).append(turn)
        self._start_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(source, turn)
            else:  # cancelled just after its turn had come
                self._release(source)
            raise

    def _start_next(self) -> None:
        while self._free:
            source = next((source for source in self._queues if source not in self._busy), None)
            if source is None:
                return
            queue = self._queues.pop(source)
            turn = queue.popleft()
            if queue:
                self._queues[source] = queue  # at the end
            if not turn.done():
                self._free -= 1
                self._busy.add(source)
                turn.set_result(None)

    def _leave(self, source: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(source)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[source]

    def _finished(self, source: str, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # marks it as retrieved: its caller may be gone
        self._release(source)

    def _release(self, source: str) -> None:
        self._busy.discard(source)
        self._free += 1
        self._start_next()
