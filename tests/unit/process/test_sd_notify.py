"""sd_notify on real sockets."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from mosaic_gateway.process.sd_notify import notify


def test_fields_arrive_as_one_datagram(tmp_path: Path) -> None:
    """Each field is one line; a line break in a value does not start another field."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        assert notify(path, READY="1", STATUS="Listening\nSTOPPING=1") is True
        assert manager.recv(4096) == b"READY=1\nSTATUS=Listening STOPPING=1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_abstract_socket() -> None:
    """A name that begins with @ stands for an abstract socket."""
    name = f"mosaic-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        assert notify(f"@{name}", STOPPING="1") is True
        assert manager.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nonexistent/notify", "@no-listener-here"])
def test_without_a_listener(address: str | None) -> None:
    """Without a service manager nothing is sent, and no error is raised."""
    assert notify(address, READY="1") is False
