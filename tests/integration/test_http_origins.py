"""Host and Origin: what is refused, with which code, and what works at every address of the gateway."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from starlette.routing import Route
from tests.support.http_gateway import Answer, Gateway, RunGateway, routes

from mosaic_gateway.gateway.request_boundary import FORWARD_CHECK

SIGN_IN, SIGN_OUT, SETUP = "/api/auth/sign-in/email", "/api/auth/sign-out", "/api/bootstrap/setup"
SESSION = "/api/auth/get-session"
#: Refused after the check of the origin, before the limits of sign-in count it.
BODY = {"email": "invalid", "password": "x"}
ACCEPTED = "INVALID_EMAIL"
EVIL = "https://evil.example"
COOKIE = {"cookie": "a=b"}
CROSS_SITE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
REFUSED = {
    "INVALID_ORIGIN": "Invalid origin",
    "MISSING_OR_NULL_ORIGIN": "Missing or null Origin",
    "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED": (
        "Cross-site navigation login blocked. This request appears to be a CSRF attack."
    ),
}
#: Settings of ``gateway``.
BASE_URL = "https://gateway.example.com"
TRUSTED = ("https://app.example.com", "https://*.example.org")


@pytest.fixture(scope="module")
def gateway(http_shared: Gateway, http_run: RunGateway) -> Iterator[Gateway]:
    """A gateway with a public name and trusted origins, without users."""
    with http_run(http_shared.conninfo, base_url=BASE_URL, trusted_origins=TRUSTED) as running:
        yield running


def raw(gateway: Gateway, head: str) -> bytes:
    """Send *head* as it is and return the whole response."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:80", "localhost:14242", "LOCALHOST", "[::1]:14242", "192.168.1.7", "[2001:db8::1]",
     socket.gethostname(), f"{socket.gethostname().partition('.')[0]}.local", "gateway.example.com",
     "app.example.com:8443", "x.example.org"],
)  # fmt: skip
def test_own_hosts(gateway: Gateway, host: str) -> None:
    """Addresses, loopback names, the machine's name, and the hosts of the settings are answered, on any port."""
    assert gateway.get("/healthz", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:14242", "gateway.example.com.evil.example", "example.org", "x"]
)
@pytest.mark.parametrize("path", ["/", "/healthz", SESSION, "/nope"])
def test_foreign_hosts(gateway: Gateway, host: str, path: str) -> None:
    """A Host that is not the gateway's gives 421 for every path, which is never cached."""
    answer = gateway.get(path, host=host)
    assert (answer.status, answer.json["code"]) == (421, "HOST_NOT_ALLOWED")
    assert "trusted_origins" in answer.json["message"]
    assert answer.headers["cache-control"] == "no-store"
    assert gateway.request("POST", path, BODY, headers={"host": host}).status == 421


def test_page_for_a_foreign_host(gateway: Gateway) -> None:
    """A browser gets a page that names the setting."""
    answer = gateway.get("/", host="evil.example:81", accept="text/html,*/*;q=0.8")
    assert answer.status == 421
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (
        b"base_url = &quot;http://evil.example:81&quot;" in answer.body
        or b'base_url = "http://evil.example:81"' in answer.body
    )
    assert b"config.toml" in answer.body


@pytest.mark.parametrize(
    "lines",
    ["", "Host:", "Host: a b", "Host: a/b", "Host: user@localhost", "Host: localhost, localhost",
     "Host: localhost:99999", "Host: <script>",
     "Host: localhost\nHost: localhost", "Host: localhost\nHost: evil.example", "Host: \xe4"],
)  # fmt: skip
def test_malformed_hosts(gateway: Gateway, lines: str) -> None:
    """No Host, several, or one that is no host: 400, whatever the version of HTTP, and never cached."""
    for version in ("1.1", "1.0"):
        head = f"GET /healthz HTTP/{version}\n{lines}\nConnection: close" if lines else f"GET / HTTP/{version}\nA: b"
        response = raw(gateway, head)
        assert response.startswith(b"HTTP/1.1 400 ")
        if b"application/json" in response:
            assert b'"code":"INVALID_HOST"' in response
            assert b"cache-control: no-store" in response


def sign_in(gateway: Gateway, **headers: str) -> Answer:
    """Sign in with an invalid address; the code is `ACCEPTED` if the origin is accepted."""
    return gateway.request("POST", SIGN_IN, BODY, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize("origin", [BASE_URL, *TRUSTED[:1], "https://x.example.org", "https://app.example.com:443"])
@pytest.mark.parametrize("header", ["origin", "referer"])
def test_trusted_origins(gateway: Gateway, header: str, origin: str) -> None:
    """The origins of the settings may sign in, with Origin or Referer."""
    value = origin if header == "origin" else f"{origin}/page?x"
    assert sign_in(gateway, **{header: value}).json["code"] == ACCEPTED
    assert sign_in(gateway, **{header: value}, **COOKIE).json["code"] == ACCEPTED


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "192.168.1.7", "[2001:db8::1]", "x.example.org"])
def test_the_address_that_is_used(gateway: Gateway, host: str) -> None:
    """The origin of the request itself is trusted, whatever base_url is; on another port it is not."""
    own = f"{host}:{gateway.port}"
    assert sign_in(gateway, host=own, origin=f"http://{own}").json["code"] == ACCEPTED
    assert sign_in(gateway, host=own, origin=f"http://{host}:{gateway.port + 1}").json["code"] == "INVALID_ORIGIN"
    assert sign_in(gateway, host=own, origin=f"https://{own}").json["code"] == "INVALID_ORIGIN"


def test_names_of_the_machine_itself(http_shared: Gateway) -> None:
    """A page at localhost may use the gateway at 127.0.0.1, and the other way round."""
    for host, other in (("127.0.0.1", "localhost"), ("localhost", "[::1]"), ("[::1]", "127.0.0.1")):
        origin = f"http://{other}:{http_shared.port}"
        assert sign_in(http_shared, host=f"{host}:{http_shared.port}", origin=origin).json["code"] == ACCEPTED


@pytest.mark.parametrize("path", [SIGN_IN, SETUP])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"origin": EVIL}, "INVALID_ORIGIN"),
        ({"origin": "http://gateway.example.com"}, "INVALID_ORIGIN"),
        ({"referer": f"{EVIL}/{BASE_URL}"}, "INVALID_ORIGIN"),
        ({"origin": EVIL, "referer": BASE_URL}, "INVALID_ORIGIN"),
        ({"origin": "null"}, "MISSING_OR_NULL_ORIGIN"),
        (COOKIE, "MISSING_OR_NULL_ORIGIN"),
        ({**COOKIE, "origin": "null"}, "MISSING_OR_NULL_ORIGIN"),
        ({**COOKIE, "origin": EVIL}, "INVALID_ORIGIN"),
        ({"sec-fetch-site": "same-origin"}, "MISSING_OR_NULL_ORIGIN"),
        ({"sec-fetch-dest": "empty"}, "MISSING_OR_NULL_ORIGIN"),
        ({**CROSS_SITE, "origin": EVIL}, "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED"),
        ({**CROSS_SITE, "origin": BASE_URL}, "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED"),
        ({**CROSS_SITE, **COOKIE, "origin": EVIL}, "INVALID_ORIGIN"),
    ],
)  # fmt: skip
def test_refused_sign_ins(gateway: Gateway, path: str, headers: dict[str, str], code: str) -> None:
    """Requests that sign in are refused from other sites, with cookies and without, before anything is read."""
    answer = gateway.request("POST", path, BODY, headers=headers)
    assert (answer.status, answer.json) == (403, {"message": REFUSED[code], "code": code})


def test_a_form_of_another_site(gateway: Gateway) -> None:
    """A form that a foreign page submits signs no one in; one of the gateway's own pages does, with Origin null too."""
    form = b"email=invalid&password=x"
    kind = {"content-type": "application/x-www-form-urlencoded"}
    refused = gateway.request("POST", SIGN_IN, raw=form, headers={**kind, **CROSS_SITE, "origin": EVIL})
    assert (refused.status, refused.cookies) == (403, ())
    for origin in (BASE_URL, "null"):
        own = {**kind, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "origin": origin}
        assert gateway.request("POST", SIGN_IN, raw=form, headers=own).json["code"] == ACCEPTED


def test_clients_that_are_no_browsers(gateway: Gateway) -> None:
    """Without cookies, Origin and Sec-Fetch headers, as by curl, a request is answered; so is one with a token."""
    assert sign_in(gateway).json["code"] == ACCEPTED
    assert gateway.request("POST", SIGN_OUT).status == 200
    assert gateway.request("POST", SIGN_OUT, headers={"authorization": "Bearer x", "origin": EVIL}).status == 200
    assert gateway.request("GET", SESSION, headers={**COOKIE, "origin": EVIL}).status == 200


def test_every_route_that_changes_state(gateway: Gateway) -> None:
    """Each refuses a request with a cookie from a foreign page."""
    checked = [
        (method, route.path)
        for route in routes()
        if isinstance(route, Route) and route.path != FORWARD_CHECK  # which answers every method and changes nothing
        for method in (route.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    ]
    assert {("POST", SIGN_IN), ("POST", SIGN_OUT), ("POST", SETUP)} <= set(checked)
    for method, path in checked:
        concrete = path.replace("{", "").replace("}", "")
        answer = gateway.request(method, concrete, {}, headers={**COOKIE, "origin": EVIL})
        assert (answer.status, answer.json["code"]) == (403, "INVALID_ORIGIN"), (method, path)


@pytest.mark.parametrize(
    ("field", "code", "label"),
    [
        ("callbackURL", "INVALID_CALLBACK_URL", "callbackURL"),
        ("redirectTo", "INVALID_REDIRECT_URL", "redirectURL"),
        ("errorCallbackURL", "INVALID_ERROR_CALLBACK_URL", "errorCallbackURL"),
        ("newUserCallbackURL", "INVALID_NEW_USER_CALLBACK_URL", "newUserCallbackURL"),
    ],
)
def test_urls_to_be_sent_to(gateway: Gateway, field: str, code: str, label: str) -> None:
    """A URL of another site is refused before the password is checked; a path and a trusted URL are not."""
    for url in (EVIL, "//evil.example", "/\\evil.example", f"{BASE_URL}@evil.example"):
        answer = gateway.post(SIGN_IN, {**BODY, field: url})
        assert (answer.status, answer.json) == (403, {"message": f"Invalid {label}", "code": code})
    for accepted in ("/console", f"{BASE_URL}/console", "https://x.example.org/", ""):
        assert gateway.post(SIGN_IN, {**BODY, field: accepted}).json["code"] == ACCEPTED
    answer = gateway.post(SIGN_IN, {**BODY, field: 5})
    assert (answer.status, answer.json) == (400, {"message": f"Invalid {label}: expected a string"})


def test_urls_in_queries(gateway: Gateway) -> None:
    """The query's callbackURL counts if the body has none."""
    assert gateway.post(f"{SIGN_IN}?callbackURL={EVIL}", BODY).json["code"] == "INVALID_CALLBACK_URL"
    assert gateway.post(f"{SIGN_IN}?callbackURL={EVIL}", {**BODY, "callbackURL": "/"}).json["code"] == ACCEPTED
    assert gateway.post(f"{SIGN_OUT}?callbackURL={EVIL}").json["code"] == "INVALID_CALLBACK_URL"


def test_a_refused_origin_is_logged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which settings to change, for those whose own address is refused."""
    sign_in(gateway, origin="https://my.example\x85" + "x" * 1000)
    (line,) = [record.getMessage() for record in caplog.records if "origin" in record.getMessage()]
    assert "https://my.example\\x85xxx" in line
    assert "trusted_origins" in line
    assert len(line) < 500
