"""TCP ports: binding, and naming the process that uses a port."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import PreflightError

__all__ = ["AddressUnusableError", "PortInUseError", "bind_failure", "bind_listener", "is_privileged", "port_owner"]

FIRST_FREE_PORT = 1024


class PortInUseError(PreflightError):
    """Another process listens on the port; the message names it if this user may see it."""

    code = "PORT_TAKEN"


class AddressUnusableError(PreflightError):
    """The address does not belong to this machine, or this user may not bind to it."""

    code = "ADDRESS_UNUSABLE"


def bind_listener(host: str, port: int) -> socket.socket:
    """Return a socket bound to *host* and *port* that does not listen yet: connections are refused.

    Raises `PortInUseError` and `AddressUnusableError`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
        raise AddressUnusableError(
            f"{host!r} is not a valid address: {error}", hint="Choose another --host."
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise bind_failure(host, port, error) from error
    return listener


def is_privileged(port: int) -> bool:
    """Return whether only root may listen on *port*."""
    with suppress(OSError, ValueError):
        return port < int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_bytes())
    return port < FIRST_FREE_PORT


def bind_failure(host: str, port: int, error: OSError) -> PreflightError:
    """Return the error for a failed bind(2) to *host* and *port*."""
    if error.errno == errno.EADDRINUSE:
        owner = port_owner(port)
        return PortInUseError(
            f"port {port} on {host} is in use by {owner}",
            hint="Stop that process, or choose another port: --port N (MOSAIC_GATEWAY_PORT).",
            details={"host": host, "port": port, "owner": owner},
        )
    return AddressUnusableError(
        f"cannot listen on {host}, port {port}: {error.strerror}",
        hint="Choose another --host, or a port above 1023.",
        details={"host": host, "port": port},
    )


def port_owner(port: int) -> str:
    """Describe the process that listens on *port*, as far as this user may see it."""
    import psutil  # noqa: PLC0415 - failures only

    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    break
                with suppress(psutil.Error):
                    return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
                return f"process {connection.pid}"
    return "an unknown process, perhaps of another user"
