"""Binding of the address that a gateway listens on, through root's process for privileged ports."""

from __future__ import annotations

import socket

from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.ports import bind_listener, is_privileged
from mosaic_gateway.process.root_requests import Request

__all__ = ["listener_for"]


def listener_for(home: Home, host: str, port: int) -> socket.socket:
    """Return a socket bound to *host* and *port*, not listening; root's process binds a privileged port.

    Raises `PortInUseError`, `AddressUnusableError`, and MosaicError if root's record does not permit the port.
    """
    if home.broker is None or not is_privileged(port):
        return bind_listener(host, port)
    return socket.socket(fileno=home.broker.ask(Request.BIND, {"port": port})[1][0])
