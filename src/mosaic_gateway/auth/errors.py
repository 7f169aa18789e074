"""Errors of user management and sign-in; codes are better-auth's where it defines one."""

from __future__ import annotations

from http import HTTPStatus

from mosaic_gateway.errors import MosaicError, RefusedError, UsageError

__all__ = [
    "AdminExistsError",
    "ApiTokenNotFoundError",
    "BannedUserError",
    "DatabaseUnavailableError",
    "InvalidCredentialsError",
    "InvalidEmailError",
    "InvalidNameError",
    "InvalidRoleError",
    "InvalidScopeError",
    "LastAdminError",
    "PasswordTooLongError",
    "PasswordTooShortError",
    "SchemaMissingError",
    "SessionNotFoundError",
    "SetupTokenError",
    "TooBusyError",
    "UserExistsError",
    "UserNotFoundError",
]


class InvalidEmailError(UsageError):
    """The text is not an e-mail address that better-auth accepts."""

    code = "INVALID_EMAIL"
    http_status = HTTPStatus.BAD_REQUEST


class InvalidNameError(UsageError):
    """The name is empty, too long, or contains control characters or lone surrogates."""

    code = "INVALID_NAME"


class InvalidRoleError(UsageError):
    """The role does not exist."""

    code = "INVALID_ROLE"


class PasswordTooShortError(UsageError):
    """The password is shorter than the minimum."""

    code = "PASSWORD_TOO_SHORT"
    http_status = HTTPStatus.BAD_REQUEST


class PasswordTooLongError(UsageError):
    """The password is longer than the maximum."""

    code = "PASSWORD_TOO_LONG"
    http_status = HTTPStatus.BAD_REQUEST


class UserExistsError(UsageError):
    """Another user has this e-mail address."""

    code = "USER_EXISTS"
    http_status = HTTPStatus.CONFLICT


class UserNotFoundError(UsageError):
    """No user has this e-mail address or id."""

    code = "USER_NOT_FOUND"
    http_status = HTTPStatus.NOT_FOUND


class LastAdminError(RefusedError):
    """The operation would leave the gateway without an admin who can sign in."""

    code = "LAST_ADMIN"
    http_status = HTTPStatus.CONFLICT


class InvalidScopeError(UsageError):
    """The scope of an API token does not exist."""

    code = "INVALID_SCOPE"
    http_status = HTTPStatus.BAD_REQUEST


class ApiTokenNotFoundError(UsageError):
    """No API token has this id."""

    code = "API_TOKEN_NOT_FOUND"
    http_status = HTTPStatus.NOT_FOUND


class SessionNotFoundError(UsageError):
    """No session has this id."""

    code = "SESSION_NOT_FOUND"


class AdminExistsError(RefusedError):
    """The gateway already has an admin, so set-up is closed."""

    code = "ADMIN_EXISTS"
    http_status = HTTPStatus.CONFLICT


class SetupTokenError(RefusedError):
    """The set-up token is missing, wrong, used or expired."""

    code = "SETUP_TOKEN_INVALID"
    http_status = HTTPStatus.FORBIDDEN


class InvalidCredentialsError(RefusedError):
    """E-mail address or password is wrong; the message does not say which."""

    code = "INVALID_EMAIL_OR_PASSWORD"
    http_status = HTTPStatus.UNAUTHORIZED


class BannedUserError(RefusedError):
    """The password is correct, but the user is banned."""

    code = "BANNED_USER"
    http_status = HTTPStatus.FORBIDDEN


class TooBusyError(MosaicError):
    """More passwords wait to be hashed than the gateway accepts."""

    code = "TOO_BUSY"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class DatabaseUnavailableError(MosaicError):
    """The database does not answer."""

    code = "DATABASE_UNAVAILABLE"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class SchemaMissingError(MosaicError):
    """The database answers, but has no users table."""

    code = "SCHEMA_MISSING"
