"""Trusted origins, and the hosts of the gateway."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.gateway.hosts import OwnHosts, machine_names
from mosaic_gateway.gateway.origins import TrustedOrigins
from mosaic_gateway.web_origin import Origin

TRUSTED = TrustedOrigins.of("https://gateway.example.com/", ["https://app.example.com:8443", "https://*.example.org"])


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("https://gateway.example.com", True),
        ("https://gateway.example.com:443/a/page", True),
        ("https://app.example.com:8443", True),
        ("https://x.example.org", True),
        ("http://gateway.example.com", False),
        ("https://gateway.example.com.evil.example", False),
        ("https://app.example.com", False),
        ("http://x.example.org", False),
        ("http://127.0.0.1:14242", False),
        ("null", False),
        ("", False),
        ("/", False),
    ],
)
def test_trusted_origins(origin: str, accepted: bool) -> None:
    """Those of the settings, and no other."""
    assert TRUSTED.accepts_origin(origin) is accepted


def test_the_names_of_the_machine_itself_are_one() -> None:
    """If one loopback origin is trusted, all its names are, on the same port and with the same scheme."""
    trusted = TrustedOrigins.of("http://127.0.0.1:14242")
    for origin in ("http://localhost:14242", "http://[::1]:14242", "http://127.0.0.2:14242"):
        assert trusted.accepts_origin(origin)
    for origin in (
        "http://localhost",
        "https://localhost:14242",
        "http://localhost.example:14242",
        "http://10.0.0.1:14242",
    ):
        assert not trusted.accepts_origin(origin)


def test_the_origin_of_the_request_itself() -> None:
    """The address that a person uses is trusted for that request."""
    own = Origin.at("http", "192.168.1.7:14242")
    assert not TRUSTED.accepts_origin("http://192.168.1.7:14242")
    assert TRUSTED.including(own).accepts_origin("http://192.168.1.7:14242")
    assert TRUSTED.including(None) == TRUSTED


@pytest.mark.parametrize("url", ["/", "/console?next=//x#y", "/a//b", "/a/../b", "/ä", "https://gateway.example.com/x"])
def test_urls_to_which_a_browser_may_be_sent(url: str) -> None:
    """Paths of the gateway, and URLs of trusted origins."""
    assert TRUSTED.accepts_url(url)


@pytest.mark.parametrize(
    "url",
    ["", "console", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n", "/a%2Fb",
     "/%5cevil", "/a\x7f", "/\x85", "https://evil.example", "https://gateway.example.com@evil.example",
     "https:/evil.example", "javascript:alert(1)", "data:text/html,x",
     "https://gateway.example.com\\.evil.example", " /"],
)  # fmt: skip
def test_urls_to_which_no_browser_is_sent(url: str) -> None:
    """URLs of other origins, and texts that browsers read in different ways."""
    assert not TRUSTED.accepts_url(url)


@settings(database=None, deadline=None)
@given(st.text())
def test_no_text_raises(text: str) -> None:
    """Every text is accepted or refused, also within a URL."""
    for url in (text, f"/{text}", f"https://{text}", f"https://gateway.example.com{text}"):
        assert isinstance(TRUSTED.accepts_url(url), bool)


def test_own_hosts() -> None:
    """The hosts of the settings, the machine's names, loopback names, and every address."""
    hosts = OwnHosts.of(
        ["https://gateway.example.com", "http://box:14242", ""],
        ["https://app.example.com", "https://*.example.org:*"],
        ["Own.local"],
    )
    for host in (
        "gateway.example.com",
        "app.example.com",
        "x.example.org",
        "box",
        "own.local",
        "localhost",
        "10.0.0.1",
        "[2001:db8::1]",
    ):
        assert hosts.include(host), host
    for host in ("evil.example", "example.org", "localhost.evil.example", "x.gateway.example.com"):
        assert not hosts.include(host), host


def test_machine_names() -> None:
    """The whole name, its first label, and both in multicast DNS."""
    assert machine_names("Box.lan") == {"box.lan", "box.lan.local", "box", "box.local"}
    assert machine_names("box") == {"box", "box.local"}
    assert machine_names("") == frozenset()
