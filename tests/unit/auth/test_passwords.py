from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest

from mosaic_gateway.auth.errors import PasswordTooLongError, PasswordTooShortError
from mosaic_gateway.auth.passwords import Hasher, check_length, check_not_too_long, hash_password, verify_password

#: Created by better-auth 1.7.25 on Node 20: `hashPassword` of "better-auth/crypto".
BETTER_AUTH_HASHES = {
    "correct horse battery staple": (
        "70c49e661843a69b8dd0cda238182e6a:5a243f02e4a1f76f302925cea6cc00c74fa42c0a4566d34bd581e23de547630d"
        "4623087bca79765888e7f401c982910d74cd5afd6ca8b68e9ff14f7efe24147e"
    ),
    "p\u00e4ssw\u00f6rd-\ufb01-\u2460": (
        "263eebc9c7a9a50aa400a51e2a313bb6:b0ff60951c9047c60dd33a3dce89e75e4fde7492322c36bad59891a6b36a3152"
        "c73a83270b540737a19c466522b6eddf37323b7d3ef50ce64789a55529a7e734"
    ),
    "lone\ud800surrogate": (
        "507ce9a8046be264a811fb5988d0c1e4:0152aeac1432e4e27f6f4721f9b945652dea9561bf78752db35a2a1b3528e063"
        "85befded2b16c05452c602531de2227bf2025a8d29dd242940f8a002536576d6"
    ),
}


@pytest.mark.parametrize("password", BETTER_AUTH_HASHES, ids=["ascii", "nfkc", "surrogate"])
def test_accepts_hashes_of_better_auth(password: str) -> None:
    """Hashes created by better-auth are verified."""
    assert verify_password(BETTER_AUTH_HASHES[password], password)


def test_normalises_before_hashing() -> None:
    """Another Unicode form of the same characters matches; another password does not."""
    stored = BETTER_AUTH_HASHES["p\u00e4ssw\u00f6rd-\ufb01-\u2460"]
    assert verify_password(stored, "pa\u0308sswo\u0308rd-fi-1")
    assert not verify_password(stored, "passwort-fi-1")


def test_writes_the_format_of_better_auth() -> None:
    """A new hash has 161 characters and a salt of its own, and is verified."""
    stored = hash_password("nul\x00 and lone \udfff")
    assert re.fullmatch("[0-9a-f]{32}:[0-9a-f]{128}", stored)
    assert verify_password(stored, "nul\x00 and lone \udfff")
    assert hash_password("nul\x00 and lone \udfff")[:32] != stored[:32]


@pytest.mark.parametrize("stored", [None, "", "garbage", "salt:", ":" + "0" * 128, "a:b:c", "salt:" + "zz" * 64])
def test_malformed_hash(stored: str | None) -> None:
    """A missing or malformed hash matches no password and raises nothing."""
    assert verify_password(stored, "correct horse battery staple") is False


def test_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    """Verification without a stored hash takes about as long as with a wrong password."""

    def seconds(stored: str | None) -> float:
        started = time.process_time()
        verify_password(stored, "wrong")
        return time.process_time() - started

    known = min(seconds(BETTER_AUTH_HASHES["correct horse battery staple"]) for _ in range(3))
    unknown = min(seconds(None) for _ in range(3))
    assert 0.6 < unknown / known < 1.6


@pytest.mark.parametrize("password", ["12345678", "\U0001f600" * 4, "x" * 128, "\U0001f600" * 64, "\ud800" * 8])
def test_lengths_count_utf16_code_units(password: str) -> None:
    """8 to 128 UTF-16 code units are allowed."""
    check_length(password)


def test_invalid_lengths() -> None:
    """7 and 129 code units are refused; at sign-in only the latter."""
    for short in ("1234567", "\U0001f600" * 3, ""):
        with pytest.raises(PasswordTooShortError):
            check_length(short)
        check_not_too_long(short)
    for long in ("x" * 129, "\U0001f600" * 65):
        with pytest.raises(PasswordTooLongError):
            check_length(long)
        with pytest.raises(PasswordTooLongError):
            check_not_too_long(long)


def test_hasher_limits_concurrency() -> None:
    """At most two threads work at the same time, and exceptions are raised in the caller."""
    running, most, guard = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with guard:
            running -= 1
        return 1 // number

    async def main() -> list[int | BaseException]:
        hasher = Hasher()
        try:
            return await asyncio.gather(
                *(hasher.run(f"address {at}", work, n) for at, n in enumerate((1, 1, 1, 1, 0))), return_exceptions=True
            )
        finally:
            hasher.close()

    results = asyncio.run(main())
    assert results[:4] == [1, 1, 1, 1]
    assert isinstance(results[4], ZeroDivisionError)
    assert most == 2
