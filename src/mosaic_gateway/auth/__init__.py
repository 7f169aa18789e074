"""Authentication: users, passwords, sessions and cookies, in better-auth's formats.

- Operations of the command line: `accounts`. The first admin: `setup`, `setup_url`.
- Sign-in: `find_credentials`, `verify_password`, `Hasher`. Sessions: `new_session`, `find_session`, `Cookies`.
- Values that a user enters: `check_email`, `check_name`, `check_length`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.auth import accounts, setup
    from mosaic_gateway.auth.better_auth_format import utc_now
    from mosaic_gateway.auth.connection import SETTINGS
    from mosaic_gateway.auth.cookies import Cookies
    from mosaic_gateway.auth.errors import DatabaseUnavailableError, InvalidNameError, SchemaMissingError
    from mosaic_gateway.auth.passwords import Hasher, check_length, check_not_too_long, verify_password
    from mosaic_gateway.auth.sessions import (
        Credentials,
        Session,
        admit,
        delete_session,
        find_credentials,
        find_session,
        insert_session,
        lift_ban,
        new_session,
    )
    from mosaic_gateway.auth.setup_tokens import setup_url
    from mosaic_gateway.auth.users import NewUser, User, check_email, check_name, check_new_email, prepare_user
else:
    __getattr__ = lazy_names(
        __name__,
        "accounts",
        "setup",
        better_auth_format="utc_now",
        connection="SETTINGS",
        cookies="Cookies",
        errors="DatabaseUnavailableError InvalidNameError SchemaMissingError",
        passwords="Hasher check_length check_not_too_long verify_password",
        sessions=(
            "Credentials Session admit delete_session find_credentials find_session insert_session lift_ban new_session"
        ),
        setup_tokens="setup_url",
        users="NewUser User check_email check_name check_new_email prepare_user",
    )

__all__ = [
    "SETTINGS",
    "Cookies",
    "Credentials",
    "DatabaseUnavailableError",
    "Hasher",
    "InvalidNameError",
    "NewUser",
    "SchemaMissingError",
    "Session",
    "User",
    "accounts",
    "admit",
    "check_email",
    "check_length",
    "check_name",
    "check_new_email",
    "check_not_too_long",
    "delete_session",
    "find_credentials",
    "find_session",
    "insert_session",
    "lift_ban",
    "new_session",
    "prepare_user",
    "setup",
    "setup_url",
    "utc_now",
    "verify_password",
]
