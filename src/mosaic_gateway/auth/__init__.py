"""Authentication: users, passwords, sessions and cookies, in better-auth's formats.

- Operations of the command line: `accounts`. The first admin: `setup`, `setup_url`.
- Sign-in: `find_credentials`, `verify_password`, `Hasher`, `rate_limits`, `KnownDevices`.
- Sessions: `new_session`, `find_session`, `Cookies`.
- Values that a user enters: `check_email`, `check_name`, `check_length`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.auth import accounts, rate_limits, setup
    from mosaic_gateway.auth.better_auth_format import utc_now
    from mosaic_gateway.auth.connection import SETTINGS
    from mosaic_gateway.auth.cookies import Cookies
    from mosaic_gateway.auth.errors import (
        BannedUserError,
        DatabaseUnavailableError,
        InvalidCredentialsError,
        InvalidNameError,
        SchemaMissingError,
        SetupTokenError,
    )
    from mosaic_gateway.auth.known_devices import KnownDevices
    from mosaic_gateway.auth.passwords import Hasher, check_length, check_not_too_long, verify_password
    from mosaic_gateway.auth.sessions import (
        Session,
        admit,
        delete_session,
        extend_session,
        find_credentials,
        find_session,
        insert_session,
        lift_ban,
        new_session,
    )
    from mosaic_gateway.auth.setup_tokens import setup_url
    from mosaic_gateway.auth.users import (
        EMAIL,
        NewUser,
        User,
        check_email,
        check_name,
        check_new_email,
        prepare_user,
        record_action,
    )
else:
    __getattr__ = lazy_names(
        __name__,
        "accounts",
        "rate_limits",
        "setup",
        better_auth_format="utc_now",
        connection="SETTINGS",
        cookies="Cookies",
        errors=(
            "BannedUserError DatabaseUnavailableError InvalidCredentialsError InvalidNameError SchemaMissingError"
            " SetupTokenError"
        ),
        known_devices="KnownDevices",
        passwords="Hasher check_length check_not_too_long verify_password",
        sessions=(
            "Session admit delete_session extend_session find_credentials find_session insert_session lift_ban"
            " new_session"
        ),
        setup_tokens="setup_url",
        users="EMAIL NewUser User check_email check_name check_new_email prepare_user record_action",
    )

__all__ = [
    "EMAIL",
    "SETTINGS",
    "BannedUserError",
    "Cookies",
    "DatabaseUnavailableError",
    "Hasher",
    "InvalidCredentialsError",
    "InvalidNameError",
    "KnownDevices",
    "NewUser",
    "SchemaMissingError",
    "Session",
    "SetupTokenError",
    "User",
    "accounts",
    "admit",
    "check_email",
    "check_length",
    "check_name",
    "check_new_email",
    "check_not_too_long",
    "delete_session",
    "extend_session",
    "find_credentials",
    "find_session",
    "insert_session",
    "lift_ban",
    "new_session",
    "prepare_user",
    "rate_limits",
    "record_action",
    "setup",
    "setup_url",
    "utc_now",
    "verify_password",
]
