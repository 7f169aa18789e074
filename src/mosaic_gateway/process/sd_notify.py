"""Notifies the service manager: sd_notify(3), one datagram to the socket in ``NOTIFY_SOCKET``.

The protocol is a few lines of text and needs no library:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["notify"]


def notify(address: str | None, **fields: str) -> bool:
    """Send *fields* (``READY="1"``, ``STATUS="…"``) to *address*; return whether they were sent.

    *address* is the value of ``NOTIFY_SOCKET``: a path, or ``@name`` for an abstract socket; None if it is not set.
    Never raises, because the gateway works without the notification.
    """
    if not address or address[0] not in "/@":
        return False
    target = f"\0{address[1:]}" if address.startswith("@") else address
    text = "\n".join(f"{name}={' '.join(value.splitlines())}" for name, value in fields.items())
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
    ):
        out.connect(target)
        out.sendall(text.encode())
        return True
    return False
