"""Unused TCP ports for gateways of the tests."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

LOWEST, HIGHEST = 10000, 32000  # below the kernel's range for outgoing connections


def free_port() -> int:
    """Return an unused port of 127.0.0.1."""
    while True:
        port = random.SystemRandom().randrange(LOWEST, HIGHEST)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
