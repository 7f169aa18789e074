"""The routes of every group of endpoints, connected with what they use."""

from __future__ import annotations

from starlette.routing import Route

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.overview import Program
from mosaic_gateway.gateway.pages import page_routes
from mosaic_gateway.gateway.protection import Protection
from mosaic_gateway.gateway.routes.account import AccountRoutes
from mosaic_gateway.gateway.routes.activity import ActivityRoutes
from mosaic_gateway.gateway.routes.admin import AdminRoutes
from mosaic_gateway.gateway.routes.admin_access import AdminAccess
from mosaic_gateway.gateway.routes.admin_credentials import AdminCredentialRoutes
from mosaic_gateway.gateway.routes.auth import AuthRoutes
from mosaic_gateway.gateway.routes.bootstrap import BootstrapRoutes
from mosaic_gateway.gateway.routes.console import ConsoleRoutes
from mosaic_gateway.gateway.routes.forward import ForwardRoutes
from mosaic_gateway.gateway.routes.health import HealthRoutes
from mosaic_gateway.gateway.routes.linked_accounts import LinkedAccountRoutes
from mosaic_gateway.gateway.routes.passwords import PasswordCheck, PasswordRoutes
from mosaic_gateway.gateway.routes.sign_in import SignInRoutes
from mosaic_gateway.gateway.routes.tokens import TokenRoutes
from mosaic_gateway.gateway.services import Services
from mosaic_gateway.gateway.signed_in import Visitors

__all__ = ["connected_routes"]


def connected_routes(services: Services, database: Database, hasher: Hasher) -> list[Route]:
    """Return all routes of the application."""
    cookies = Cookies(services.auth_secret, services.web.base_url, services.web.cookie_domain)
    visitors, protection = Visitors(database, cookies), Protection.of(database, cookies, hasher)
    passwords, access = PasswordCheck(database, protection), AdminAccess(database, visitors)
    program = Program(version=services.version, instance_id=services.instance_id, engine=services.engine)
    return [
        *AuthRoutes(database, cookies).routes(),
        *SignInRoutes(database, cookies, protection).routes(),
        *AccountRoutes(
            database, cookies, visitors, passwords, email_is_identity=services.web.forward_user == "email"
        ).routes(),
        *PasswordRoutes(database, cookies, visitors, passwords).routes(),
        *AdminRoutes(database, protection.passwords, access).routes(),
        *AdminCredentialRoutes(database, protection.passwords, access, services.web.base_url).routes(),
        *LinkedAccountRoutes(database, visitors).routes(),
        *TokenRoutes(database, visitors).routes(),
        *BootstrapRoutes(database, cookies, protection).routes(),
        *ActivityRoutes(database, visitors).routes(),
        *ConsoleRoutes(database, visitors, program, services.web, services.home).routes(),
        *ForwardRoutes(visitors, cookies, services.web).routes(),
        *HealthRoutes(database, visitors, version=services.version, instance_id=services.instance_id).routes(),
        *page_routes(),
    ]
