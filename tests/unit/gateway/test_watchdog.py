"""The watchdog, which notifies the service manager only while the gateway answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from mosaic_gateway.gateway.control.service_notice import Watchdog, watchdog_limit

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def _gateway(answer: list[bytes]) -> Iterator[str]:
    """Serve HTTP: answer each request with the last item of *answer*, or not at all if that is empty."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            with ExitStack() as hanging:
                while True:
                    client, _ = server.accept()
                    if not client.recv(4096):
                        client.close()
                        break
                    client.sendall(answer[-1])
                    if answer[-1]:
                        client.close()
                    else:
                        hanging.enter_context(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            socket.create_connection(server.getsockname()).close()
            thread.join()


@pytest.mark.parametrize("after", [b"", BUSY], ids=["hanging", "unavailable"])
def test_notifications_only_while_the_gateway_answers(tmp_path: Path, after: bytes) -> None:
    """Notifications stop when the gateway hangs or returns 503, and resume when it answers again."""
    address, answer = str(tmp_path / "notify"), [OK]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, _gateway(answer) as url:
        manager.bind(address)
        manager.settimeout(10)
        watchdog = Watchdog(address, url, 0.3)
        watchdog.start()
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        answer.append(after)
        manager.settimeout(1.0)
        notifications = 0
        with suppress(TimeoutError):
            while notifications < 20 and manager.recv(100):
                notifications += 1
        assert notifications < 3, "only those sent before the change"
        answer.append(OK)
        manager.settimeout(10)
        assert manager.recv(100) == b"WATCHDOG=1"
        watchdog.stop()


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_limit(environ: Mapping[str, str], limit: float | None) -> None:
    """WATCHDOG_USEC applies only to the process in WATCHDOG_PID, since child processes inherit both."""
    assert watchdog_limit(environ, 7) == limit
