"""Telling the service manager how we are: sd_notify(3), one datagram to the socket named in ``NOTIFY_SOCKET``.

The protocol is a few lines of text, so it needs no library:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["notify"]


def notify(address: str | None, **fields: str) -> bool:
    """Send *fields* (``READY="1"``, ``STATUS="…"``) to *address*; return whether somebody took it.

    *address* is what ``NOTIFY_SOCKET`` says: a path, or ``@name`` for an abstract socket; None: nobody listens.
    Never an error, because nothing depends on it but what the service manager knows.
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
