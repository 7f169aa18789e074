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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from mosaic_gateway.auth.errors import PasswordTooLongError, PasswordTooShortError

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
    """Runs password hashing in threads, at most *at_once* hashes (32 MiB each) at a time."""

    def __init__(self, at_once: int = HASHES_AT_ONCE) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="password")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *work* in one of the threads and return its result, or raise its exception."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    def close(self) -> None:
        """Refuse new hashes and cancel waiting ones; running ones finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)
