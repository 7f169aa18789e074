from __future__ import annotations

from datetime import datetime

import pytest

from mosaic_gateway.auth.errors import InvalidEmailError, InvalidNameError, InvalidRoleError, PasswordTooShortError
from mosaic_gateway.auth.users import User, check_email, check_name, prepare_user


@pytest.mark.parametrize("email", ["a@b.co", "A.b+c_d-'e@sub.Example.com", "1@2.info", "a@b--c.xy"])
def test_valid_addresses(email: str) -> None:
    """Addresses that zod accepts are accepted, and returned in lower case."""
    assert check_email(email) == email.lower()


@pytest.mark.parametrize(
    "email",
    [
        "", "x", "@", "a@", "@b.co", "admin@localhost", "ü@b.co", "a@bücher.de", "a b@c.de", "a@b.c", "a@b.co\n",
       " a@b.co",
        "a..b@c.de", ".a@b.de", "a.@b.de", "a@-b.de", "a@b@c.de", "a\x00@b.co", "a@b.co\x00", "\ud800@b.co", "a@b.c0",
    ],
)  # fmt: skip
def test_invalid_addresses(email: str) -> None:
    """Addresses that zod refuses are refused."""
    with pytest.raises(InvalidEmailError):
        check_email(email)


def test_huge_addresses_are_refused_quickly() -> None:
    """The check of a nearly valid address of 1 MB takes linear time."""
    for email in ("a" * 1_000_000, "a." * 500_000, "a@" + "b-" * 500_000, "a@" + "b." * 500_000 + "1"):
        with pytest.raises(InvalidEmailError):
            check_email(email)


def test_names() -> None:
    """Names may use any script and are stripped; control characters, lone surrogates and long names are refused."""
    assert check_name("  Ada Lovelace ") == "Ada Lovelace"
    assert check_name("李雷 \U0001f600") == "李雷 \U0001f600"
    for name in ("", "  ", "a\x00b", "a\nb", "\ud800", "x" * 201):
        with pytest.raises(InvalidNameError):
            check_name(name)


def test_prepare_user_checks_every_value() -> None:
    """Each invalid value has its own error."""
    with pytest.raises(InvalidEmailError):
        prepare_user("Ada", f"{'a' * 250}@b.co", "long enough")
    with pytest.raises(InvalidRoleError):
        prepare_user("Ada", "a@b.co", "long enough", "root")
    with pytest.raises(PasswordTooShortError):
        prepare_user("Ada", "a@b.co", "short")


def test_json_has_better_auths_keys_in_its_order() -> None:
    """The JSON object of a user equals better-auth's; times have exactly three fractional digits."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 60_789)  # noqa: DTZ001 - the tables hold UTC without zone
    row = ("Ada", "a@b.co", False, None, moment, moment.replace(microsecond=0), "admin", True, "spam", moment, "id1")
    assert list(User.from_row(row).to_json().items()) == [
        ("name", "Ada"),
        ("email", "a@b.co"),
        ("emailVerified", False),
        ("image", None),
        ("createdAt", "2026-01-02T03:04:05.060Z"),
        ("updatedAt", "2026-01-02T03:04:05.000Z"),
        ("role", "admin"),
        ("banned", True),
        ("banReason", "spam"),
        ("banExpires", "2026-01-02T03:04:05.060Z"),
        ("id", "id1"),
    ]
