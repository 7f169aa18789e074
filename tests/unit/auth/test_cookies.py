from __future__ import annotations

import pytest

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.config import Secret

#: Created by better-auth 1.7.25 with this secret and base URL.
SECRET = Secret("test-secret-for-vectors-0123456789abcdef")
TOKEN = "zk2DYOhkPUTR6RtvmwHlG9ZUqppGvVFZ"
SIGNED = "zk2DYOhkPUTR6RtvmwHlG9ZUqppGvVFZ.9quJul/LMloYYBDv5emlML8Xbpj7rIhARPetUH/t6dw="
ENCODED = "zk2DYOhkPUTR6RtvmwHlG9ZUqppGvVFZ.9quJul%2FLMloYYBDv5emlML8Xbpj7rIhARPetUH%2Ft6dw%3D"
SHORT_TOKEN = "YIOOL9BN0AQP2n6FwSplFx8F90CYhEBK"
SHORT_COOKIES = [
    (
        "better-auth.session_token=YIOOL9BN0AQP2n6FwSplFx8F90CYhEBK"
        ".VYgC%2BgY13GpG46LiCj5BR%2FwPHD1%2BnWpZZoJY9lEnkq8%3D; Path=/; HttpOnly; SameSite=Lax"
    ),
    "better-auth.dont_remember=true.nnEHPoqXZAeCHvjG5eJH1pDLYpLn4pmKJqdqWR4PD58%3D; Path=/; HttpOnly; SameSite=Lax",
]


@pytest.fixture
def cookies() -> Cookies:
    """Return the cookies of a gateway with an http base URL."""
    return Cookies(SECRET, "http://127.0.0.1:14242")


def test_sets_what_better_auth_sets(cookies: Cookies) -> None:
    """The cookies of a sign-in equal better-auth's byte for byte, with and without rememberMe."""
    assert cookies.signed_in(TOKEN, remember=True) == [
        f"better-auth.session_token={ENCODED}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax"
    ]
    assert cookies.signed_in(SHORT_TOKEN, remember=False) == SHORT_COOKIES


def test_clears_what_better_auth_clears(cookies: Cookies) -> None:
    """Sign-out deletes all three cookies."""
    assert cookies.cleared() == [
        f"better-auth.{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
        for name in ("session_token", "session_data", "dont_remember")
    ]


def test_secure_cookies_with_https() -> None:
    """With an https base URL, cookies have the ``__Secure-`` prefix and Secure; the plain name is ignored."""
    cookies = Cookies(SECRET, "https://gateway.example.com")
    assert cookies.signed_in(TOKEN, remember=True) == [
        f"__Secure-better-auth.session_token={ENCODED}; Max-Age=604800; Path=/; HttpOnly; Secure; SameSite=Lax"
    ]
    assert cookies.session_token(f"__Secure-better-auth.session_token={ENCODED}") == TOKEN
    assert cookies.session_token(f"better-auth.session_token={ENCODED}") is None


def test_cookies_of_a_domain() -> None:
    """With a domain each cookie has Domain, and one without it, which browsers would send too, is deleted first."""
    cookies = Cookies(SECRET, "https://gateway.example.com", "example.com")
    end, name = "Path=/; HttpOnly; Secure; SameSite=Lax", "__Secure-better-auth.session_token"
    names = [f"__Secure-better-auth.{part}" for part in ("session_token", "session_data", "dont_remember")]
    of_host = [f"{one}=; Max-Age=0; {end}" for one in names]
    assert cookies.signed_in(TOKEN, remember=True) == [
        *of_host,
        f"{name}={ENCODED}; Max-Age=604800; Domain=example.com; {end}",
    ]
    signed_in = cookies.signed_in(TOKEN, remember=False)
    assert signed_in[:4] == [*of_host, f"{name}={ENCODED}; Domain=example.com; {end}"]
    assert signed_in[4].startswith(names[2])
    assert signed_in[4].endswith(f"; Domain=example.com; {end}")
    assert cookies.cleared() == [*of_host, *(f"{one}=; Max-Age=0; Domain=example.com; {end}" for one in names)]
    assert cookies.session_token(f"{name}=; {name}={ENCODED}") == TOKEN


@pytest.mark.parametrize("value", [ENCODED, SIGNED], ids=["encoded", "plain"])
def test_reads_encoded_and_unencoded_values(cookies: Cookies, value: str) -> None:
    """The value is read percent-encoded or not, among other cookies."""
    assert cookies.session_token(f"a=b; better-auth.session_token={value};c=d") == TOKEN


@pytest.mark.parametrize(
    "value",
    [
        "", "x", TOKEN, f"{TOKEN}.", f".{SIGNED.split('.')[1]}", SIGNED[:-1], f"A{SIGNED[1:]}", f"{SIGNED[:-2]}A=",
        f"{TOKEN}.{'é' * 44}", "%", "%ff%00.x", f"{TOKEN}x.{SIGNED.split('.')[1]}",
    ],
)  # fmt: skip
def test_invalid_signature(cookies: Cookies, value: str) -> None:
    """A value without a valid signature is ignored."""
    assert cookies.session_token(f"better-auth.session_token={value}") is None


def test_bearer_tokens(cookies: Cookies) -> None:
    """A bearer token is a signed value and precedes the cookie; a raw token or an invalid signature is ignored."""
    cookie = f"better-auth.session_token={ENCODED}"
    assert cookies.bearer(TOKEN) == ENCODED
    assert cookies.session_token(None, f"Bearer {SIGNED}") == TOKEN
    assert cookies.session_token(None, f"bearer  {ENCODED} ") == TOKEN
    other = cookies.bearer("another")
    assert cookies.session_token(cookie, f"Bearer {other}") == "another"
    for ignored in (f"Bearer {TOKEN}", "Bearer abc.def", "Bearer ", "Bearer é", f"Basic {SIGNED}"):
        assert cookies.session_token(None, ignored) is None
        assert cookies.session_token(cookie, ignored) == TOKEN
    assert cookies.session_token(None, f"Bearer {cookies.bearer('a' + chr(0) + 'b')}") is None
