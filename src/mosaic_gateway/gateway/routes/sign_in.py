"""``/api/auth/sign-in/email`` and sign-up, which is disabled, byte-compatible with better-auth."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.errors import BannedUserError, InvalidCredentialsError
from mosaic_gateway.auth.passwords import check_not_too_long, verify_password
from mosaic_gateway.auth.sessions import (
    Credentials,
    Session,
    admit,
    find_credentials,
    insert_session,
    lift_ban,
    lock_credentials,
    new_session,
)
from mosaic_gateway.auth.users import EMAIL, User, check_email, record_action
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError
from mosaic_gateway.gateway.protection import Protection
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.sign_in_record import SUCCEEDED

__all__ = ["SignInRoutes"]

SIGN_IN_PATH = "/sign-in/email"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignIn:
    """The fields of a sign-in; *email* in lower case, *url* as sent."""

    email: str
    password: str
    remember: bool
    url: str | None


class SignInRoutes:
    """The endpoints sign-in and sign-up."""

    def __init__(self, database: Database, cookies: Cookies, protection: Protection) -> None:
        self._database = database
        self._cookies = cookies
        self._protection = protection

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("POST", "/api/auth/sign-in/email", self.sign_in),
            endpoint_route("POST", "/api/auth/sign-up/email", self.sign_up),
        ]

    async def sign_in(self, request: Request) -> Response:
        """``POST sign-in/email``: create a session. Computes one password hash whether the user exists or not."""
        body = await messages.read_body(request, (messages.JSON, messages.FORM))
        asked = _sign_in_fields(body)
        attempts = await self._protection.limits.require(request, SIGN_IN_PATH, email=asked.email)
        credentials = await self._database.read(lambda connection: find_credentials(connection, asked.email))
        stored = credentials.password_hash if credentials else None
        verified = await self._protection.passwords.run(request, verify_password, stored, asked.password)
        try:
            user, _ = admit(credentials, verified=verified, now=utc_now())
            user, session = await self._create(request, Credentials(user, stored), attempts, remember=asked.remember)
        except (InvalidCredentialsError, BannedUserError) as error:
            await self._protection.record.failed(
                request, error.code, user_id=credentials.user.id if credentials else None
            )
            raise
        return self._signed_in(request, asked, user, session)

    async def sign_up(self, request: Request) -> Response:
        """``POST sign-up/email``: refused as by a better-auth with ``disableSignUp``, which checks the fields first."""
        body = messages.require_object(await messages.read_body(request, (messages.JSON, messages.FORM)))
        _check_sign_up_fields(body)
        raise ApiError(400, "EMAIL_PASSWORD_SIGN_UP_DISABLED", "Email and password sign up is not enabled")

    async def _create(
        self, request: Request, verified: Credentials, attempts: str | None, *, remember: bool
    ) -> tuple[User, Session]:
        """Write a session and its record, and forget the *attempts* before it; lift an expired ban.

        Raises `InvalidCredentialsError` and `BannedUserError` if the user was changed while the hash was computed.
        """
        address = messages.client_address(request) or None

        async def create(connection: AsyncConnection) -> tuple[User, Session]:
            credentials = await lock_credentials(connection, verified)
            user, ban_expired = admit(credentials, verified=True, now=utc_now())
            session = _new_session(request, user, remember=remember)
            if ban_expired:
                await lift_ban(connection, user)
            await insert_session(connection, session)
            await record_action(connection, SUCCEEDED, target=user.id, actor_id=user.id, ip_address=address)
            await self._protection.limits.succeeded(connection, SIGN_IN_PATH, attempts)
            return user, session

        return await self._database.write(create)

    def _signed_in(self, request: Request, asked: _SignIn, user: User, session: Session) -> Response:
        url = {} if asked.url is None else {"url": asked.url}
        body = {"redirect": bool(asked.url), "token": session.token, **url, "user": user.to_json()}
        cookies = [
            *self._cookies.signed_in(session.token, remember=asked.remember),
            self._protection.devices.cookie(asked.email),
        ]
        if asked.remember and self._cookies.dont_remember(request.headers.get("cookie")):
            cookies.append(self._cookies.remembered())
        headers = {
            "set-auth-token": self._cookies.bearer(session.token),
            "access-control-expose-headers": "set-auth-token",
            **({"location": messages.header_url(asked.url)} if asked.url else {}),
        }
        return messages.json_response(body, headers=headers, cookies=cookies)


def _new_session(request: Request, user: User, *, remember: bool) -> Session:
    address, agent = messages.client_address(request), messages.user_agent(request)
    return new_session(user.id, remember=remember, ip_address=address, user_agent=agent)


def _sign_in_fields(parsed: object) -> _SignIn:
    body = messages.require_object(parsed)
    issues = [
        messages.field_issue(body, "email"),
        messages.field_issue(body, "password"),
        messages.field_issue(body, "callbackURL", optional=True),
        messages.field_issue(body, "rememberMe", bool, optional=True),
    ]
    if any(issues):
        raise messages.issues_error([issue for issue in issues if issue])
    email, password = check_email(str(body["email"])), str(body["password"])
    check_not_too_long(password)
    url = str(body["callbackURL"]) if "callbackURL" in body else None
    return _SignIn(email=email, password=password, remember=body.get("rememberMe") is not False, url=url)


def _check_sign_up_fields(body: dict[str, object]) -> None:
    issues = [
        messages.field_issue(body, "name"),
        messages.field_issue(body, "email") or _email_issue(str(body["email"])),
        messages.field_issue(body, "password") or _empty_issue(str(body["password"])),
        messages.field_issue(body, "image", optional=True),
        messages.field_issue(body, "callbackURL", optional=True),
        messages.field_issue(body, "rememberMe", bool, optional=True),
    ]
    if any(issues):
        raise messages.issues_error([issue for issue in issues if issue])


def _email_issue(email: str) -> str | None:
    return None if EMAIL.fullmatch(email) else "[body.email] Invalid email address"


def _empty_issue(password: str) -> str | None:
    return None if password else "[body.password] Too small: expected string to have >=1 characters"
