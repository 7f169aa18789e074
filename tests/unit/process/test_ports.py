"""Binding a TCP port, and the errors if that fails."""

from __future__ import annotations

import os
import socket

import pytest

from mosaic_gateway.errors import ExitCode
from mosaic_gateway.process.ports import AddressUnusableError, PortInUseError, PortOfConnectionError, bind_listener


def test_bound_but_closed() -> None:
    """A bound port refuses connections until its socket listens."""
    with bind_listener("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)
        listener.listen(1)
        socket.create_connection(address, timeout=5).close()


def test_port_in_use() -> None:
    """The error names the process that listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"process {os.getpid()}") as caught:
            bind_listener("127.0.0.1", port)
        assert caught.value.exit_code is ExitCode.PREFLIGHT
        assert caught.value.details["port"] == port


def test_a_port_that_is_bound_by_an_unknown_process() -> None:
    """If no visible process listens on the port, its owner is unknown."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(PortInUseError, match="an unknown process, perhaps of another user"):
            bind_listener("127.0.0.1", other.getsockname()[1])


def test_the_local_port_of_a_connection() -> None:
    """A port that only an outgoing connection has is not said to be listened on; the connection is named."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        port = client.getsockname()[1]
        with pytest.raises(PortOfConnectionError, match=rf"ESTABLISHED.*process {os.getpid()}") as caught:
            bind_listener("127.0.0.1", port)
        assert caught.value.details["port"] == port


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "no-such-host.invalid", "ü" * 64, "a..b", "a\0b"],
    ids=["foreign", "unknown", "unencodable", "empty-label", "nul"],
)
def test_unusable_address(host: str) -> None:
    """An address of another machine, or an invalid one, is a preflight error."""
    with pytest.raises(AddressUnusableError) as caught:
        bind_listener(host, 0)
    assert caught.value.exit_code is ExitCode.PREFLIGHT


def _has_ipv6() -> bool:
    """Return whether the kernel supports IPv6 and has not disabled it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_ipv6() -> None:
    """An IPv6 address is bound with its own address family."""
    with bind_listener("::1", 0) as listener:
        assert listener.family is socket.AF_INET6


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_every_address_includes_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """``::`` accepts IPv4 as well, also where the machine's default (net.ipv6.bindv6only) is IPv6 alone."""

    class Ipv6Alone(socket.socket):
        def __init__(self, family: int, kind: int, protocol: int) -> None:
            super().__init__(family, kind, protocol)
            self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

    monkeypatch.setattr(socket, "socket", Ipv6Alone)
    with bind_listener("::", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


@pytest.mark.skipif(_has_ipv6(), reason="this machine has IPv6")
def test_ipv6_without_support() -> None:
    """An IPv6 address is unusable on a machine that has none."""
    with pytest.raises(AddressUnusableError):
        bind_listener("::1", 0)
