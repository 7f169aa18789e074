"""``/api/auth/forward`` as a proxy asks it: permissions, redirects to the sign-in page, and what is not believed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.http_gateway import SECRET, Answer, Gateway, run_gateway

from mosaic_gateway.auth.better_auth_format import new_id
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.forward_rules import ForwardRule

CHECK = "/api/auth/forward"
BASE = "https://auth.example.com"
SETTINGS: dict[str, Any] = {
    "base_url": BASE,
    "trusted_origins": ("https://*.example.com",),
    "trusted_proxies": ("127.0.0.1",),
    "cookie_domain": "example.com",
    "forward_rules": (
        ForwardRule(host="status.example.com", allow="public"),
        ForwardRule(host="wiki.example.com", path="/public/*", allow="public"),
        ForwardRule(host="wiki.example.com", allow="signed-in"),
        ForwardRule(host="grafana.example.com", allow="role:admin"),
    ),
}
COOKIES = Cookies(SECRET, BASE)
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec-fetch-mode": "navigate"}
REMOTE = ("remote-user", "remote-email", "remote-name", "remote-groups")
NO_ONE = dict.fromkeys(REMOTE, "")


@pytest.fixture
def gateway(http_database: str) -> Iterator[Gateway]:
    """A gateway with four rules."""
    with run_gateway(http_database, **SETTINGS) as running:
        yield running


def add_session(
    gateway: Gateway, *, name: str = "Åsa", role: str | None = "user", email: str = "asa@example.com", age: int = 0,
    banned: bool = False,
) -> str:  # fmt: skip
    """Insert a user and a session that is *age* days old; return the Cookie header of a browser."""
    user, token = new_id(), new_id()
    gateway.sql(
        "INSERT INTO users (id, name, email, email_verified, role, banned, created_at, updated_at)"
        " VALUES (%s, %s, %s, false, %s, %s, now(), now())",
        user, name, email, role, banned,
    )  # fmt: skip
    gateway.sql(
        "INSERT INTO sessions (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)"
        " VALUES (%s, %s, %s, now() at time zone 'utc' + interval '1 day' * (7 - %s), now(), now(), '', '')",
        new_id(), token, user, age,
    )  # fmt: skip
    return COOKIES.signed_in(token, remember=True)[0].split(";")[0]


def ask(
    gateway: Gateway, url: str, *, method: str = "GET", cookie: str = "", asked_by: str = "GET", **headers: str
) -> Answer:
    """Ask as Caddy and Traefik do about *method* *url*; *headers* are those of the client."""
    parts = urlsplit(url)
    sent = {
        "host": parts.netloc,
        "x-forwarded-for": "198.51.100.7",
        "x-forwarded-proto": parts.scheme,
        "x-forwarded-host": parts.netloc,
        "x-forwarded-uri": url.split(parts.netloc, 1)[1] or "/",
        "x-forwarded-method": method,
        **({"cookie": cookie} if cookie else {}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return gateway.request(asked_by, CHECK, headers=sent)


def ask_as_nginx(gateway: Gateway, url: str, *, cookie: str = "", **headers: str) -> Answer:
    """Ask as the documented configuration of nginx does."""
    sent = {"host": "auth.example.com", "x-original-url": url, "x-original-method": "GET", "cookie": cookie}
    return gateway.request(
        "GET", CHECK, headers=sent | {name.replace("_", "-"): text for name, text in headers.items()}
    )


def remote(answer: Answer) -> Mapping[str, str]:
    """Return the headers for the service, whose bytes are UTF-8."""
    return {name: answer.headers[name].encode("latin-1").decode() for name in REMOTE}


def test_permissions(gateway: Gateway) -> None:
    """Public paths are open to everyone, others to signed-in users, and those of a role to users who have it."""
    user, admin = add_session(gateway), add_session(gateway, role="user,admin", email="ada@example.com")
    for url, codes in {
        "https://status.example.com/": (200, 200, 200),
        "https://wiki.example.com/public/logo.svg?x=/private": (200, 200, 200),
        "https://wiki.example.com/": (401, 200, 200),
        "https://wiki.example.com/?/public/": (401, 200, 200),
        "https://grafana.example.com/": (401, 403, 200),
        "https://GRAFANA.example.com/": (401, 403, 200),
        "https://other.example.com/": (401, 200, 200),
    }.items():
        assert tuple(ask(gateway, url, cookie=cookie).status for cookie in ("", user, admin)) == codes, url
        assert tuple(ask_as_nginx(gateway, url, cookie=cookie).status for cookie in ("", user, admin)) == codes, url
    assert ask_as_nginx(gateway, "https://grafana.example.com./", cookie=user).status == 403
    refused = ask(gateway, "https://grafana.example.com/", cookie=user)
    assert refused.json == {"message": "asa@example.com may not open grafana.example.com", "code": "FORBIDDEN"}


def test_a_person_without_the_role_sees_a_page(gateway: Gateway) -> None:
    """A browser that opens a page gets one that names the person, the service and the gateway; a script gets JSON."""
    cookie, url = add_session(gateway, email="a<b>@example.com"), "https://grafana.example.com/x"
    for answer in (ask(gateway, url, cookie=cookie, **BROWSER), ask_as_nginx(gateway, url, cookie=cookie, **BROWSER)):
        page = answer.body.decode()
        assert (answer.status, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "<h1>a&lt;b&gt;@example.com may not open grafana.example.com</h1>" in page
        assert f'<a href="{BASE}/">' in page
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for client in ({"method": "POST", **BROWSER}, {**BROWSER, "sec-fetch-mode": "cors"}, {"accept": "*/*"}):
        assert ask(gateway, url, cookie=cookie, **client).json["code"] == "FORBIDDEN"


def test_identity(gateway: Gateway, http_database: str) -> None:
    """The headers describe the user; on a public path they are empty, so that a proxy replaces its client's."""
    cookie = add_session(gateway, role="admin, ops")
    answer = ask(gateway, "https://grafana.example.com/", cookie=cookie, remote_user="root", remote_groups="admin")
    ((user,),) = gateway.sql("SELECT id FROM users")
    identity = {
        "remote-user": user,
        "remote-email": "asa@example.com",
        "remote-name": "Åsa",
        "remote-groups": "admin,ops",
    }
    assert (remote(answer), answer.body, answer.headers["cache-control"]) == (identity, b"", "no-store")
    assert remote(ask(gateway, "https://status.example.com/", cookie=cookie, remote_user="root")) == NO_ONE
    assert not set(REMOTE) & set(ask(gateway, "https://wiki.example.com/", remote_user="root").headers)
    with run_gateway(http_database, **SETTINGS, forward_user="email") as other:
        assert remote(ask(other, "https://wiki.example.com/", cookie=cookie)) == identity | {
            "remote-user": "asa@example.com"
        }


def test_names_cannot_break_headers(gateway: Gateway) -> None:
    """Control characters, line separators and direction marks of a name become spaces."""
    cookie = add_session(gateway, name=" a\r\nRemote-Groups: admin\x85b\u2028c\u202ed\x7f\u2066 ", role=None)
    headers = remote(ask(gateway, "https://wiki.example.com/", cookie=cookie))
    assert (headers["remote-name"], headers["remote-groups"]) == ("a Remote-Groups: admin b c d", "user")


@pytest.mark.parametrize("asked_by", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_any_method(gateway: Gateway, asked_by: str) -> None:
    """A proxy may ask with the method of the request, from any origin; only a GET navigation is redirected."""
    cookie = add_session(gateway)
    url = "https://wiki.example.com/edit"
    assert ask(gateway, url, method="POST", asked_by=asked_by, cookie=cookie, origin="https://x.test").status == 200
    assert ask(gateway, url, method="POST", asked_by=asked_by, origin="https://x.test", **BROWSER).status == 401
    assert ask(gateway, url, asked_by=asked_by, **BROWSER).status == 302


def test_a_browser_is_sent_to_the_sign_in_page(gateway: Gateway) -> None:
    """A navigation is redirected with the URL to return to; for nginx the page is in Location of a 401."""
    url = "https://wiki.example.com/a/b?c=d&e=%20f"
    answer = ask(gateway, url, **BROWSER)
    location = urlsplit(answer.headers["location"])
    assert (answer.status, location.netloc, location.path) == (302, "auth.example.com", "/")
    assert parse_qs(location.query) == {"return": [url]}
    nginx = ask_as_nginx(gateway, url.replace(".com/", ".com:443/"), **BROWSER)
    assert (nginx.status, nginx.headers["location"]) == (401, answer.headers["location"])
    assert ask(gateway, "wss://wiki.example.com/a", **BROWSER).headers["location"].endswith("wiki.example.com%2Fa")
    long = ask(gateway, f"{url}{'x' * 3000}", **BROWSER).headers["location"]
    assert parse_qs(urlsplit(long).query) == {"return": ["https://wiki.example.com/"]}


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"accept": "application/json"},
        {**BROWSER, "sec-fetch-mode": "cors"},
        {**BROWSER, "sec-fetch-mode": "websocket", "upgrade": "websocket"},
        {"accept": "text/html", "x-requested-with": "XMLHttpRequest"},
    ],
)
def test_programs_and_scripts_get_401(gateway: Gateway, client: dict[str, str]) -> None:
    """Only a browser that opens a page is redirected."""
    answer = ask(gateway, "https://wiki.example.com/", **client)
    assert (answer.status, "location" in answer.headers) == (401, False)
    assert answer.json["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/", "http://wiki.example.com/", "https://wiki.example.com:8443/", "https://example.com.evil.test/",
        "https://evilexample.com/", "https://wiki.example.com.evil.test/", "https://wiki.example.com.evil/",
    ],
)  # fmt: skip
def test_no_redirect_that_returns_to_an_untrusted_origin(gateway: Gateway, url: str) -> None:
    """A foreign host, another scheme or port, and look-alikes get 401; the page's question about them gets null."""
    answer = ask(gateway, url, **BROWSER)
    assert (answer.status, "location" in answer.headers) == (401, False)
    assert gateway.get(f"{CHECK}/return?url={url}").json == {"url": None}


@pytest.mark.parametrize(
    ("host", "uri"),
    [
        ("wiki.example.com", "//evil.test/x"), ("wiki.example.com", "/\\evil.test"),
        ("wiki.example.com", "/%5cevil.test"), ("wiki.example.com", "/..//evil.test"),
    ],
)  # fmt: skip
def test_odd_paths_stay_on_their_host(gateway: Gateway, host: str, uri: str) -> None:
    """The URL to return to is absolute: two slashes or backslashes of its path never name a host."""
    headers = {"x-forwarded-uri": uri}
    answer = ask(gateway, f"https://{host}/", **headers, **BROWSER)
    assert parse_qs(urlsplit(answer.headers["location"]).query)["return"] == [f"https://{host}{uri}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-forwarded-uri", "@evil.test/"), ("x-forwarded-uri", "https://evil.test/"),
        ("x-forwarded-uri", ".evil.test/"),
        ("x-forwarded-uri", "\\\\evil.test"), ("x-forwarded-uri", "/a#b"), ("x-forwarded-uri", "/a b"),
        ("x-forwarded-uri", "/\x80"), ("x-forwarded-uri", "/%00"), ("x-forwarded-uri", "/%"), ("x-forwarded-uri", "*"),
        ("x-forwarded-host", "wiki.example.com@evil.test"), ("x-forwarded-host", "evil.test\\.example.com"),
        ("x-forwarded-host", "a.example.com, b.example.com"), ("x-forwarded-host", "wiki.example.com:x"),
        ("x-forwarded-host", "evil.test/.example.com"), ("x-forwarded-host", "evil.test?.example.com"),
        ("x-forwarded-host", "wiki.example.com:99999"), ("x-forwarded-host", "wiki..example.com"),
        ("x-forwarded-host", "évil.example.com"), ("x-forwarded-proto", "javascript"),
        ("x-forwarded-proto", "https,http"),
        ("x-forwarded-method", "G E T"), ("x-forwarded-method", "get\x80"),
        ("x-original-url", "https://status.example.com/"), ("x-original-url", "//evil.test/"),
        ("x-original-url", "https://user@wiki.example.com/"), ("x-original-url", "javascript://wiki.example.com/"),
    ],
)  # fmt: skip
def test_malformed_and_contradictory_requests(gateway: Gateway, name: str, value: str) -> None:
    """Even an admin, and even on a public path: what is malformed, or said in two ways, is refused with 403."""
    cookie = add_session(gateway, role="admin")
    for host in ("wiki.example.com", "status.example.com"):
        if value == f"https://{host}/":
            continue
        answer = ask(gateway, f"https://{host}/", cookie=cookie, **{"x-forwarded-uri": "/", name: value}, **BROWSER)
        assert (answer.status, answer.json["code"]) == (403, "ORIGINAL_URL_INVALID")


def test_a_header_that_is_sent_twice(gateway: Gateway) -> None:
    """Which of two values a proxy meant is not guessed."""
    for name in ("X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-Proto", "X-Forwarded-Method"):
        lines = ["GET /api/auth/forward HTTP/1.1", "Host: auth.example.com", "X-Forwarded-Host: status.example.com",
                 "X-Forwarded-Uri: /", "X-Forwarded-Proto: https", "X-Forwarded-Method: GET"]  # fmt: skip
        lines += [next(line for line in lines if line.startswith(name)), "Connection: close", "", ""]
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall("\r\n".join(lines).encode())
            with connection.makefile("rb") as response:
                assert b"403" in response.readline()
                assert b"ORIGINAL_URL_INVALID" in response.read()


@pytest.mark.parametrize("missing", ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"])
def test_nothing_missing_is_guessed(gateway: Gateway, missing: str) -> None:
    """A proxy that does not report scheme, host or path is not configured."""
    answer = ask(gateway, "https://status.example.com/", **{missing: ""})
    assert (answer.status, answer.json["code"]) == (400, "ORIGINAL_URL_MISSING")
    assert gateway.get(CHECK, host="status.example.com").json["code"] == "ORIGINAL_URL_MISSING"


def test_both_kinds_of_headers_must_agree(gateway: Gateway) -> None:
    """X-Forwarded-* beside X-Original-URL are accepted only if they say the same."""
    url = "https://status.example.com/a"
    same = {"x-forwarded-proto": "https", "x-forwarded-host": "status.example.com", "x-forwarded-uri": "/a"}
    assert ask_as_nginx(gateway, url, **same).status == 200
    for name, value in {"x-forwarded-uri": "/b", "x-forwarded-host": "wiki.example.com", "x-forwarded-proto": "http",
                        "x-forwarded-method": "POST"}.items():  # fmt: skip
        assert ask_as_nginx(gateway, url, **{**same, name: value}).json["code"] == "ORIGINAL_URL_INVALID"


def test_ambiguous_paths(gateway: Gateway) -> None:
    """A path that leads to another rule for another server is refused, to an admin and to a browser too."""
    cookie = add_session(gateway, role="admin")
    for path in ("/public/..%2f", "/public/../secret", "/public/..;/secret", "/Public/x", "/public%2fx", "//public/x"):
        answer = ask(gateway, f"https://wiki.example.com{path}", cookie=cookie, **BROWSER)
        assert (answer.status, answer.json["code"]) == (403, "PATH_AMBIGUOUS"), path


@pytest.mark.parametrize("proxies", [(), ("192.0.2.1",), ("unix",)])
def test_only_a_trusted_proxy_is_answered(http_database: str, proxies: tuple[str, ...]) -> None:
    """Without trusted_proxies, and from another address, even a public path is refused, whatever the headers say."""
    with run_gateway(http_database, **{**SETTINGS, "trusted_proxies": proxies}) as gateway:
        for headers in (
            {},
            {"x-forwarded-for": "192.0.2.1"},
            {"forwarded": "for=192.0.2.1"},
            {"x-real-ip": "192.0.2.1"},
        ):
            answer = ask(gateway, "https://status.example.com/", **headers)
            assert (answer.status, answer.json["code"]) == (403, "PROXY_NOT_TRUSTED")


def test_sessions_that_do_not_count(gateway: Gateway) -> None:
    """An expired session, a forged cookie and a banned user open nothing; the check changes no row."""
    expired = add_session(gateway, age=8)
    banned = add_session(gateway, email="ban@example.com", banned=True)
    before = gateway.sql("SELECT * FROM sessions ORDER BY id")
    url = "https://wiki.example.com/"
    assert ask(gateway, url, cookie=expired, **BROWSER).status == 302
    assert ask(gateway, url, cookie=banned[:-4] + "AAAA").status == 401
    assert ask(gateway, url, cookie=banned).json["code"] == "FORBIDDEN"
    assert ask(gateway, url, cookie=banned, **BROWSER).status == 403
    assert gateway.sql("SELECT * FROM sessions ORDER BY id") == before


def test_without_cookie_domain_only_the_own_host_returns(http_database: str) -> None:
    """A browser is not sent to sign in where its session cookie would never arrive."""
    with run_gateway(http_database, **{**SETTINGS, "cookie_domain": None}) as gateway:
        assert ask(gateway, "https://wiki.example.com/", **BROWSER).status == 401
        assert ask(gateway, "https://auth.example.com/app", **BROWSER).status == 302


def test_without_rules_everyone_must_be_signed_in(http_database: str) -> None:
    """The default is signed-in, for every host and path."""
    with run_gateway(http_database, **{**SETTINGS, "forward_rules": ()}) as gateway:
        cookie = add_session(gateway)
        for path in ("/", "/public/x", "/a/../b"):
            assert ask(gateway, f"https://status.example.com{path}").status == 401
            assert ask(gateway, f"https://status.example.com{path}", cookie=cookie).status == 200


def test_the_page_asks_where_it_may_return(gateway: Gateway) -> None:
    """Only an absolute URL of a trusted origin is one to return to."""
    good = "https%3A%2F%2Fwiki.example.com%2Fa%3Fb"
    assert gateway.get(f"{CHECK}/return?url={good}", host="auth.example.com").json == {
        "url": "https://wiki.example.com/a?b"
    }
    for url in ("", "/x", "//evil.test", "/\\evil.test", "https://wiki.example.com@evil.test/", "javascript:alert(1)",
                "https://evil.test%5c.example.com/", "https://wiki.example.com%0d%0a/",
                "https:wiki.example.com"):  # fmt: skip
        assert gateway.get(f"{CHECK}/return?url={url}", host="auth.example.com").json == {"url": None}, url


def expiry(gateway: Gateway) -> float:
    """Return the days until the only session ends."""
    ((days,),) = gateway.sql("SELECT extract(epoch FROM expires_at - now() at time zone 'utc') / 86400 FROM sessions")
    return float(days)


@pytest.mark.parametrize("kind", [ask, ask_as_nginx])
def test_a_session_is_extended_by_a_detour_once_a_day(gateway: Gateway, kind: Callable[..., Answer]) -> None:
    """A browser that opens a page is sent through the gateway, which renews the cookie; the check writes nothing."""
    cookie, url = add_session(gateway, age=2), "https://wiki.example.com/a?b=c"
    assert kind(gateway, url, cookie=cookie).status == 200
    answer = kind(gateway, url, cookie=cookie, **BROWSER)
    location = urlsplit(answer.headers["location"])
    assert (answer.status, location.path) == (302 if kind is ask else 401, f"{CHECK}/extend")
    assert expiry(gateway) < 5.1
    extended = gateway.get(f"{location.path}?{location.query}", host="auth.example.com", cookie=cookie)
    assert (extended.status, extended.headers["location"]) == (302, url)
    assert cookie in {value.split(";")[0] for value in extended.cookies if "Domain=example.com" in value}
    assert expiry(gateway) > 6.9
    assert kind(gateway, url, cookie=cookie, **BROWSER).status == 200


def test_no_endless_detour(gateway: Gateway) -> None:
    """A browser that was just at the gateway is not sent again, though its session was not extended there."""
    cookie, url = add_session(gateway, age=2), "https://wiki.example.com/"
    other = add_session(gateway, age=2, email="other@example.com")
    extended = gateway.get(f"{CHECK}/extend?url={url}", host="auth.example.com", cookie=other)
    marks = "; ".join(value.split(";")[0] for value in extended.cookies if "extended=" in value)
    assert marks
    assert ask(gateway, url, cookie=f"{cookie}; {marks}", **BROWSER).status == 200
    remembered = COOKIES.signed("dont_remember", "true", 1).split(";")[0]
    assert ask(gateway, url, cookie=f"{cookie}; {remembered}", **BROWSER).status == 200


def test_the_detour_leads_to_any_url(gateway: Gateway) -> None:
    """A URL with letters that a header cannot contain is encoded."""
    path = f"{CHECK}/extend?url=https://wiki.example.com/%25E4/%E4%B8%AD"
    answer = gateway.get(path, host="auth.example.com", cookie=add_session(gateway, age=2))
    assert (answer.status, answer.headers["location"]) == (302, "https://wiki.example.com/%E4/%E4%B8%AD")


def test_the_detour_is_no_open_redirect(gateway: Gateway) -> None:
    """A URL of an untrusted origin leads to the gateway's page, and a session that ended to the sign-in page."""
    cookie = add_session(gateway, age=2)
    for url in ("https://evil.test/", "//evil.test", "/x", "", "https://wiki.example.com@evil.test", "javascript:x"):
        answer = gateway.get(f"{CHECK}/extend?url={url}", host="auth.example.com", cookie=cookie)
        assert (answer.status, answer.headers["location"]) == (302, f"{BASE}/")
    assert expiry(gateway) < 5.1
    answer = gateway.get(f"{CHECK}/extend?url=https://wiki.example.com/", host="auth.example.com")
    assert answer.headers["location"] == f"{BASE}/?return=https%3A%2F%2Fwiki.example.com%2F"
