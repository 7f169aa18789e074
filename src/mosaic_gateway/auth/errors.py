"""What can go wrong with people and their sign-ins; the codes are better-auth's where it has one."""

from __future__ import annotations

from mosaic_gateway.errors import MosaicError, RefusedError, UsageError

__all__ = [
    "AdminExistsError",
    "BannedUserError",
    "DatabaseUnavailableError",
    "InvalidCredentialsError",
    "InvalidEmailError",
    "InvalidNameError",
    "InvalidRoleError",
    "PasswordTooLongError",
    "PasswordTooShortError",
    "SchemaMissingError",
    "SetupTokenError",
    "UserExistsError",
    "UserNotFoundError",
]


class InvalidEmailError(UsageError):
    """The text is no e-mail address that better-auth would accept."""

    code = "INVALID_EMAIL"


class InvalidNameError(UsageError):
    """The name is empty, too long, or holds characters that PostgreSQL refuses."""

    code = "INVALID_NAME"


class InvalidRoleError(UsageError):
    """There is no such role."""

    code = "INVALID_ROLE"


class PasswordTooShortError(UsageError):
    """The password is below the lower limit."""

    code = "PASSWORD_TOO_SHORT"


class PasswordTooLongError(UsageError):
    """The password is above the upper limit."""

    code = "PASSWORD_TOO_LONG"


class UserExistsError(UsageError):
    """Another user has this e-mail address."""

    code = "USER_EXISTS"


class UserNotFoundError(UsageError):
    """No user has this e-mail address."""

    code = "USER_NOT_FOUND"


class AdminExistsError(RefusedError):
    """The gateway has its first admin already; set-up is over."""

    code = "ADMIN_EXISTS"


class SetupTokenError(RefusedError):
    """The set-up token is missing, wrong, used or past its time."""

    code = "SETUP_TOKEN_INVALID"


class InvalidCredentialsError(RefusedError):
    """E-mail address and password do not belong together; never says which is wrong."""

    code = "INVALID_EMAIL_OR_PASSWORD"


class BannedUserError(RefusedError):
    """The password is right, but the user has been banned."""

    code = "BANNED_USER"


class DatabaseUnavailableError(MosaicError):
    """The database does not answer."""

    code = "DATABASE_UNAVAILABLE"


class SchemaMissingError(MosaicError):
    """The database answers, but has no users table."""

    code = "SCHEMA_MISSING"
