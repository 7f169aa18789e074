"""The client of a request that came through proxies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.gateway.proxies import Client, TrustedProxies, plain_address, resolve_client
from mosaic_gateway.web_origin import parse_authority

PROXY, OUTER = "10.1.0.1", "10.1.0.2"
PROXIES = TrustedProxies.of(["10.1.0.0/16", "2001:db8::7", "unix"])
NAMES = {"f": b"x-forwarded-for", "p": b"x-forwarded-proto", "h": b"x-forwarded-host", "fwd": b"forwarded"}


def resolve(peer: str | None = PROXY, **headers: str | list[str]) -> Client:
    """Resolve a request by http with the *headers* of `NAMES`."""
    listed = [
        (NAMES[name], value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return resolve_client(peer, "http", listed, PROXIES)


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),  # what the client sent is on the left
        (f"203.0.113.9, 192.0.2.1, {OUTER}", "192.0.2.1"),
        (f"192.0.2.1,,{OUTER} ,", "192.0.2.1"),
        (f"{OUTER}", OUTER),
        (f"10.1.0.9, {OUTER}", "10.1.0.9"),  # a client in the network of the proxies
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("192.0.2.1, 2001:db8::7", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.1.0.2", "192.0.2.1"),
        ("192.0.2.1, unix:", "192.0.2.1"),
        ("", PROXY),
        ("unknown", PROXY),
        ("192.0.2.1, unknown", PROXY),
        (f"192.0.2.1, _hidden, {OUTER}", OUTER),  # nothing beyond what is no address is believed
        ("192.0.2.256", PROXY),
        ("192.0.2.1 evil", PROXY),
        ("fe80::1%eth0", PROXY),
        ("192.0.2.1:99999999", PROXY),
        ("127.0.0.1\x00", PROXY),
        ("<script>", PROXY),
    ],
)
def test_forwarded_for(sent: str, address: str) -> None:
    """The list is read from the right, past trusted proxies, up to the first other address."""
    assert resolve(f=sent).address == address


def test_several_lines_are_one_list() -> None:
    """Lines of the same name are read in their order."""
    assert resolve(f=["192.0.2.1", OUTER]).address == "192.0.2.1"
    assert resolve(f=[OUTER, "192.0.2.1"]).address == "192.0.2.1"


def test_peers_that_are_not_trusted() -> None:
    """Their headers change nothing; trusted are addresses, networks and, if listed, unix sockets."""
    sent = {"f": "192.0.2.1", "p": "https", "h": "a.example", "fwd": "for=192.0.2.1"}
    for peer in ("10.2.0.1", "2001:db8::8", "", "not an address", "::ffff:10.2.0.1"):
        assert resolve(peer, **sent) == Client(peer, "http")
    assert resolve_client(None, "http", [(NAMES["f"], b"192.0.2.1")], TrustedProxies()) == Client(None, "http")
    for trusted in (PROXY, "2001:db8::7", None, "::ffff:10.1.0.1"):
        assert resolve(trusted, **sent) == Client("192.0.2.1", "https", "a.example")
    assert resolve(None) == Client(None, "http")


def test_scheme_and_host() -> None:
    """They are those that the outermost trusted proxy reports; malformed ones are ignored."""
    assert resolve(p="https", h="A.example:8443") == Client(PROXY, "https", "A.example:8443")
    assert resolve(f="192.0.2.1", p="http, https", h="evil.example, a.example") == Client(
        "192.0.2.1", "https", "a.example"
    )
    # The inner proxy appended to all three lists.
    assert resolve(f=f"192.0.2.1, {OUTER}", p="https, http", h="a.example, inner") == Client(
        "192.0.2.1", "https", "a.example"
    )
    # The inner proxy passed on what the outer wrote.
    assert resolve(f=f"192.0.2.1, {OUTER}", p="https", h="a.example") == Client("192.0.2.1", "https", "a.example")
    for scheme in ("ftp", "HTTPS ", "https;", "javascript", ""):
        assert resolve(p=scheme).scheme == "http"
    for host in ("a b", "a/b", "evil.example#", "a:99999", "a\\b", "<x>", ""):
        assert resolve(h=host).host is None


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        ("for=192.0.2.1", Client("192.0.2.1", "http")),
        ('For="192.0.2.1:80";Proto=HTTPS;host="a.example:8443";by=_x', Client("192.0.2.1", "https", "a.example:8443")),
        ('for="[2001:db8::1]:80"; proto=https', Client("2001:db8::1", "https")),
        (f"for=203.0.113.9;proto=http, for=192.0.2.1;proto=https;host=a.example, for={OUTER}",
         Client("192.0.2.1", "https", "a.example")),
        ('for="evil, for=192.0.2.1', Client("192.0.2.1", "http")),
        ("for=192.0.2.1, for=unknown", Client(PROXY, "http")),
        ("for=192.0.2.1, garbage", Client(PROXY, "http")),
        ("for=[2001:db8::1]", Client(PROXY, "http")),
        ('for="192.0.2.1', Client(PROXY, "http")),
        ("=;=", Client(PROXY, "http")),
        ("", Client(PROXY, "http")),
    ],
)  # fmt: skip
def test_forwarded(sent: str, client: Client) -> None:
    """RFC 7239: the elements are read from the right, those of trusted proxies only."""
    assert resolve(fwd=sent) == client


def test_forwarded_beside_the_older_headers() -> None:
    """A proxy that writes X-Forwarded-For passes on a Forwarded of its client, which is ignored."""
    assert resolve(f="192.0.2.1", fwd="for=203.0.113.9;proto=https;host=evil.example") == Client("192.0.2.1", "http")


_PARTS = st.sampled_from(
    ["192.0.2.1", PROXY, "unix:", "2001:db8::1", "[::1]:80", "unknown", "for=", "proto=https", '"', "\\", ";", ",", "=",
     " ", "host=a.example", "\x00", "%", ":"]
)  # fmt: skip
_VALUES = st.one_of(st.lists(_PARTS).map("".join), st.text(st.characters(max_codepoint=255)))


@settings(database=None, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(NAMES)), st.lists(_VALUES, max_size=3)),
    st.sampled_from([PROXY, None, "192.0.2.7"]),
)
def test_any_headers(headers: dict[str, list[str]], peer: str | None) -> None:
    """No header raises; the result is an address, a scheme and a host, or what was there before."""
    client = resolve(peer, **headers)
    assert client.scheme in {"http", "https"}
    assert client.host is None or parse_authority(client.host)
    assert client.address == peer or str(ip_address(client.address or "")) == client.address
    if peer == "192.0.2.7":
        assert client == Client(peer, "http")


@settings(database=None, deadline=None)
@given(st.lists(_VALUES, max_size=3))
def test_a_client_cannot_choose_its_address(sent: list[str]) -> None:
    """Whatever a client sends, the address that the trusted proxy appends is the client's."""
    assert resolve(f=[*sent, "192.0.2.1"]).address == "192.0.2.1"
    assert resolve(fwd=[*sent, "for=192.0.2.1"]).address == "192.0.2.1"


def test_plain_addresses() -> None:
    """IPv4 as a dual-stack socket reports it is IPv4; other text stays as it is."""
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("::ffff:x") == "::ffff:x"


@pytest.mark.parametrize("entry", ["", "*", "localhost", "10.1.0.0/8", "10.0.0.0/33", "10.0.0", "unix:", "fe80::/10/1"])
def test_entries_that_are_no_proxies(entry: str) -> None:
    """An entry is an address, a network, or the word unix."""
    with pytest.raises(ValueError, match=r".*"):
        TrustedProxies.of([entry])
