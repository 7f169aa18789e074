"""TCP ports: binding, and naming the process that uses a port."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import PreflightError

__all__ = [
    "AddressUnusableError",
    "PortInUseError",
    "PortOfConnectionError",
    "bind_failure",
    "bind_listener",
    "is_privileged",
]

FIRST_FREE_PORT = 1024
ANOTHER_PORT = "--port N (MOSAIC_GATEWAY_PORT)."


class PortInUseError(PreflightError):
    """Another process listens on the port; the message names it if this user may see it."""

    code = "PORT_TAKEN"


class PortOfConnectionError(PreflightError):
    """No process listens on the port, but a connection has it as its local port."""

    code = "PORT_OF_CONNECTION"


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
        if host == "::":  # every address, whatever net.ipv6.bindv6only is
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
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
    if error.errno != errno.EADDRINUSE:
        return AddressUnusableError(
            f"cannot listen on {host}, port {port}: {error.strerror}",
            hint="Choose another --host, or a port above 1023.",
            details={"host": host, "port": port},
        )
    import psutil  # noqa: PLC0415 - failures only

    connections: list[Any] = []
    with suppress(psutil.Error):
        connections = [one for one in psutil.net_connections(kind="tcp") if one.laddr and one.laddr.port == port]
    listening = [one for one in connections if one.status == psutil.CONN_LISTEN]
    if connections and not listening:
        owner = _process(connections[0].pid)
        return PortOfConnectionError(
            f"port {port} on {host} is the local port of a connection ({connections[0].status}) of {owner}",
            hint="Run the command again when the connection has ended, or choose another port: " + ANOTHER_PORT,
            details={"host": host, "port": port, "owner": owner},
        )
    owner = _process(listening[0].pid if listening else None)
    return PortInUseError(
        f"port {port} on {host} is in use by {owner}",
        hint="Stop that process, or choose another port: " + ANOTHER_PORT,
        details={"host": host, "port": port, "owner": owner},
    )


def _process(pid: int | None) -> str:
    """Describe the process *pid*; None: one that this user may not see."""
    import psutil  # noqa: PLC0415 - failures only

    if pid is None:
        return "an unknown process, perhaps of another user"
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).name()} (process {pid})"
    return f"process {pid}"
