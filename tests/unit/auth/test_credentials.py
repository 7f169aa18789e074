from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from mosaic_gateway.auth.better_auth_format import new_id
from mosaic_gateway.auth.errors import BannedUserError, InvalidCredentialsError
from mosaic_gateway.auth.sessions import Credentials, admit
from mosaic_gateway.auth.users import User

NOW = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the tables hold UTC without zone


def user(*, banned: bool | None = False, ban_expires: datetime | None = None) -> User:
    """Return a user with the given ban."""
    return User.from_row(("Ada", "a@b.co", False, None, NOW, NOW, "user", banned, None, ban_expires, "id"))


def test_admitted_users() -> None:
    """A user with the correct password is admitted; an expired ban is lifted."""
    assert admit(Credentials(user(), "h"), verified=True, now=NOW) == (user(), False)
    assert admit(Credentials(user(banned=None), "h"), verified=True, now=NOW)[1] is False
    admitted, lift = admit(
        Credentials(user(banned=True, ban_expires=NOW - timedelta(seconds=1)), "h"), verified=True, now=NOW
    )
    assert lift
    assert admitted == user()


def test_refused_users() -> None:
    """Unknown user and wrong password raise the same error; a ban is reported only after the correct password."""
    for credentials in (None, Credentials(user(), "h"), Credentials(user(banned=True), "h")):
        with pytest.raises(InvalidCredentialsError):
            admit(credentials, verified=False, now=NOW)
    for expires in (None, NOW + timedelta(days=1)):
        with pytest.raises(BannedUserError):
            admit(Credentials(user(banned=True, ban_expires=expires), "h"), verified=True, now=NOW)


def test_ids_have_better_auths_format() -> None:
    """Identifiers are 32 random ASCII letters and digits."""
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(text) == 32 and text.isascii() and text.isalnum() for text in ids)
