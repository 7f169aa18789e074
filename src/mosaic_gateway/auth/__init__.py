"""Authentication: users, passwords, sessions and cookies, in better-auth's formats.

- Operations of the command line: `accounts`. The first admin: `setup`, `setup_url`.
- What admins do with users: `administration`, `user_search`, `permissions`, `lock_admins`; with sessions:
  `session_list`; with passwords: `reset_tokens`. The own account: `own_account`. Tokens of programs: `api_tokens`.
- Sign-in: `find_credentials`, `verify_password`, `Hasher`, `rate_limits`, `KnownDevices`.
- Sessions: `new_session`, `find_session`, `Cookies`.
- Values that a user enters: `check_email`, `check_name`, `check_length`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.auth import (
        accounts,
        administration,
        api_tokens,
        own_account,
        permissions,
        rate_limits,
        reset_tokens,
        session_list,
        setup,
        user_search,
    )
    from mosaic_gateway.auth.activity import (
        ActivityFilter,
        ActivityPage,
        read_actions,
        read_activity,
        read_sign_ins,
    )
    from mosaic_gateway.auth.audit import (
        Actor,
    )
    from mosaic_gateway.auth.better_auth_format import (
        iso,
        moment_of,
        utc_now,
    )
    from mosaic_gateway.auth.connection import (
        SETTINGS,
    )
    from mosaic_gateway.auth.cookies import (
        Cookies,
    )
    from mosaic_gateway.auth.errors import (
        BannedUserError,
        DatabaseUnavailableError,
        InvalidCredentialsError,
        InvalidNameError,
        SchemaMissingError,
        SetupTokenError,
        UserExistsError,
        UserNotFoundError,
    )
    from mosaic_gateway.auth.known_devices import (
        KnownDevices,
    )
    from mosaic_gateway.auth.last_admin import (
        lock_admins,
    )
    from mosaic_gateway.auth.passwords import (
        Hasher,
        check_length,
        check_not_too_long,
        hash_password,
        verify_password,
    )
    from mosaic_gateway.auth.sessions import (
        Credentials,
        Session,
        admit,
        delete_session,
        extend_session,
        find_credentials,
        find_session,
        insert_session,
        lift_ban,
        lock_credentials,
        new_session,
    )
    from mosaic_gateway.auth.setup_tokens import (
        setup_url,
    )
    from mosaic_gateway.auth.users import (
        EMAIL,
        UNPRINTABLE,
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
        "administration",
        "api_tokens",
        "own_account",
        "permissions",
        "rate_limits",
        "reset_tokens",
        "session_list",
        "setup",
        "user_search",
        activity="ActivityFilter ActivityPage read_actions read_activity read_sign_ins",
        audit="Actor",
        better_auth_format="iso moment_of utc_now",
        connection="SETTINGS",
        cookies="Cookies",
        errors=(
            "BannedUserError DatabaseUnavailableError InvalidCredentialsError InvalidNameError SchemaMissingError"
            " SetupTokenError UserExistsError UserNotFoundError"
        ),
        known_devices="KnownDevices",
        last_admin="lock_admins",
        passwords="Hasher check_length check_not_too_long hash_password verify_password",
        sessions=(
            "Credentials Session admit delete_session extend_session find_credentials"
            " find_session insert_session lift_ban lock_credentials new_session"
        ),
        setup_tokens="setup_url",
        users="EMAIL UNPRINTABLE NewUser User check_email check_name check_new_email prepare_user record_action",
    )

__all__ = [
    "EMAIL",
    "SETTINGS",
    "UNPRINTABLE",
    "ActivityFilter",
    "ActivityPage",
    "Actor",
    "BannedUserError",
    "Cookies",
    "Credentials",
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
    "UserExistsError",
    "UserNotFoundError",
    "accounts",
    "administration",
    "admit",
    "api_tokens",
    "check_email",
    "check_length",
    "check_name",
    "check_new_email",
    "check_not_too_long",
    "delete_session",
    "extend_session",
    "find_credentials",
    "find_session",
    "hash_password",
    "insert_session",
    "iso",
    "lift_ban",
    "lock_admins",
    "lock_credentials",
    "moment_of",
    "new_session",
    "own_account",
    "permissions",
    "prepare_user",
    "rate_limits",
    "read_actions",
    "read_activity",
    "read_sign_ins",
    "record_action",
    "reset_tokens",
    "session_list",
    "setup",
    "setup_url",
    "user_search",
    "utc_now",
    "verify_password",
]
