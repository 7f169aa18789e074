"""Origins, authorities and origin patterns."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.web_origin import Origin, OriginPattern, is_address, is_loopback, parse_authority


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("gateway.example.com", ("gateway.example.com", None)),
        ("Gateway.Example.COM:8443", ("gateway.example.com", 8443)),
        ("my_gateway:1", ("my_gateway", 1)),
        ("127.0.0.1:14242", ("127.0.0.1", 14242)),
        ("[::1]", ("[::1]", None)),
        ("[2001:DB8:0:0::1]:443", ("[2001:db8::1]", 443)),
    ],
)
def test_authorities(text: str, parsed: tuple[str, int | None]) -> None:
    """Host and port, in one form for each host."""
    assert parse_authority(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", ":80", "a b", "a,b", "a/b", "a:", "a:0", "a:65536", "a:x", "user@a", "a..b", ".a", "a.", "::1", "[::1", "[x]",
     "[::1]80", "[fe80::1%eth0]", "127.1", "0x7f.0.0.1", "2130706433", "127.0.0.256", "1.2.3.4.5", "bücher.example",
     "a\\b", "a\n", "٣.٣.٣.٣", "a:٣"],
)  # fmt: skip
def test_malformed_authorities(text: str) -> None:
    """What is no host, and what a browser would first turn into one, is refused."""
    assert parse_authority(text) is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.example:443/path?query#fragment", "https://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://a.example:80/ä", "http://a.example"),
        ("http://[::1]:14242?x", "http://[::1]:14242"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    """The origin of a URL has the port only if it is not the scheme's."""
    assert str(Origin.of(url)) == origin


@pytest.mark.parametrize(
    "url",
    ["", "null", "a.example", "//a.example", "/path", "ftp://a.example", "javascript:alert(1)", "https:a.example",
     "https:/a.example", "https:///a.example", "https:\\\\a.example", "https://a.example\\@b", "https://u@a.example",
     "https://u:p@a.example", " https://a.example", "https://a.example\t", "https://a.ex\nample", "https://a.example /",
     "https://", "https://?a", "file:///etc", "https://a.example,https://b.example",
     "https://a.example/\\b", "https://a.example/ b", "https://a.example/\x00", "https://a.example/?\x85"],
)  # fmt: skip
def test_texts_that_are_no_origin(url: str) -> None:
    """Only absolute http and https URLs without a user have an origin; nothing is repaired."""
    assert Origin.of(url) is None


@settings(database=None, deadline=None)
@given(st.text())
def test_parsing_is_idempotent(text: str) -> None:
    """No text raises, and the canonical form of an origin parses to itself."""
    for candidate in (text, f"https://{text}", f"http://{text}:81/"):
        origin = Origin.of(candidate)
        assert origin is None or Origin.of(str(origin)) == origin


@pytest.mark.parametrize(
    ("host", "address", "loopback"),
    [("localhost", False, True), ("127.0.0.1", True, True), ("127.9.9.9", True, True), ("[::1]", True, True),
     ("10.0.0.1", True, False), ("[2001:db8::1]", True, False), ("localhost.example", False, False)],
)  # fmt: skip
def test_kinds_of_hosts(host: str, address: bool, loopback: bool) -> None:
    """An address is no name; loopback hosts are localhost, 127.0.0.0/8 and ::1."""
    assert (is_address(host), is_loopback(host)) == (address, loopback)


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("https://*.example.com", ["https://a.example.com", "https://a.b.example.com"],
         ["http://a.example.com", "https://example.com", "https://a.example.com:8443", "https://aexample.com",
          "https://a.example.com.evil.example"]),
        ("*.Example.com", ["https://a.example.com", "http://a.example.com"], ["https://a.example.com:81", "https://x"]),
        ("*.example.com:*", ["http://a.example.com:81"], ["http://a.example.com"]),
        ("https://app-?.example.com", ["https://app-1.example.com"], ["https://app-12.example.com"]),
        ("http://192.168.*.*", ["http://192.168.1.2", "http://192.168.1.2:81"], ["http://192.168.evil.example"]),
        ("192.168.1.*:*", ["http://192.168.1.2:81"], ["http://192.168.1.evil.example:81"]),
    ],
)  # fmt: skip
def test_patterns(pattern: str, accepted: list[str], refused: list[str]) -> None:
    """``*`` is any text within the origin; a pattern of numbers admits addresses only."""
    parsed = OriginPattern.of(pattern)
    assert parsed is not None
    matched = {url for url in accepted + refused if (origin := Origin.of(url)) and parsed.matches(origin)}
    assert matched == set(accepted)
    assert all(parsed.matches_host(urlsplit(url).hostname or "") for url in accepted)


@pytest.mark.parametrize(
    "text",
    ["", "https://a.example", "a.example", "*", "?", "*.*", "https://*", "http*://a.example", "*://a.example",
     "https://*.example.com/", "*.example.com/path", "*.exa mple.com", "*.example.com:x", "myapp://*.example",
     "[a-z]*.x"],
)  # fmt: skip
def test_texts_that_are_no_pattern(text: str) -> None:
    """A pattern has a wildcard and letters or digits, and neither path nor another scheme."""
    assert OriginPattern.of(text) is None
