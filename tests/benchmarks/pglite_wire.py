"""The wire server compared with PGlite's own socket server, and with PGlite used in-process.

All three run at the same time on copies of one database and take turns block by block; a ratio is computed from the
times of one round. This project's server runs as installed, with fsync; the others with their defaults, without.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
from importlib_resources import as_file, files

from mosaic_gateway.engines.pglite.node import find_node

INTEROP = Path(__file__).parents[1] / "interop"
NATIVE = Path(__file__).with_name("pglite_native.mjs")
SOCKET = ".s.PGSQL.5432"
LIMIT = 120  # seconds
CALLS = 500  # in a block
WARM = 16  # blocks until V8 has compiled the code in use
KEYS = 10_000
ROWS = 100_000
Line = tuple[str, str, str]


def measure(rounds: int) -> list[Line]:
    """Return description, measured value and aim; nothing without Node.js or PGlite's socket server."""
    modules = Path(os.environ.get("MOSAIC_GATEWAY_TEST_INTEROP", INTEROP)) / "node_modules"
    if shutil.which("node") is None or not (modules / "@electric-sql" / "pglite-socket").is_dir():
        return []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wire-")))
        _template(directory / "template", modules)
        for name in ("ours", "peer", "native"):
            shutil.copytree(directory / "template", directory / name)
        ours = stack.enter_context(_served(_server_words(directory / "ours", modules), directory / "ours"))
        peer = stack.enter_context(_served(_peer_words(directory / "peer", modules), directory / "peer"))
        (directory / "rows").write_bytes(b"".join(b"%d\trow number %d\t%d.5\n" % (i, i, i) for i in range(ROWS)))
        native = stack.enter_context(_native(directory / "native", directory / "rows", modules))
        rows = (directory / "rows").read_bytes()
        for block in [_select, _look_up] * WARM:
            block(ours)
            block(peer)
        lines = [
            _compared(
                "parameterised select through the wire server; PGlite's socket server", _select, ours, peer, rounds
            ),
            _compared("look-up by primary key; PGlite's socket server", _look_up, ours, peer, rounds),
        ]
        pairs = [(_copy(ours, rows), native()) for _ in range(rounds + 1)][1:]
        what = "`COPY` of 100,000 rows through the wire server; PGlite itself, without a wire and without fsync"
        return [*lines, _line(what, pairs, 1e3, "ms", "≤ 2 ×")]


def _compared(
    what: str,
    block: Callable[[psycopg.Connection], float],
    ours: psycopg.Connection,
    peer: psycopg.Connection,
    rounds: int,
) -> Line:
    pairs = [(block(ours), block(peer)) for _ in range(rounds + WARM)]
    return _line(what, pairs[WARM:], 1e6, "µs", "≤ 0.5 ×")


def _line(what: str, pairs: list[tuple[float, float]], scale: float, unit: str, aim: str) -> Line:
    own, peer = (statistics.median(column) * scale for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return what, f"{own:.0f} {unit} = {ratio:.2f} × ({peer:.0f} {unit})", aim


def _select(connection: psycopg.Connection) -> float:
    """Return the median time of one call in a block, in seconds."""
    return _median(lambda number: connection.execute("SELECT %s::int + 1", [number]).fetchone())


def _look_up(connection: psycopg.Connection) -> float:
    return _median(lambda number: connection.execute("SELECT v FROM keys WHERE k = %s", [number * 7 % KEYS]).fetchone())


def _median(call: Callable[[int], object]) -> float:
    times = []
    for number in range(CALLS):
        start = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _copy(connection: psycopg.Connection, rows: bytes) -> float:
    connection.execute("DROP TABLE IF EXISTS copied")
    connection.execute("CREATE TABLE copied (a int PRIMARY KEY, b text, c float8)")
    start = time.perf_counter()
    with connection.cursor().copy("COPY copied FROM STDIN") as copy:
        copy.write(rows)
    return time.perf_counter() - start


def _template(directory: Path, modules: Path) -> None:
    directory.mkdir(mode=0o700)
    with _served(_server_words(directory, modules), directory) as connection:
        connection.execute("CREATE TABLE keys (k int PRIMARY KEY, v text)")
        connection.execute(f"INSERT INTO keys SELECT i, md5(i::text) FROM generate_series(0, {KEYS - 1}) i".encode())


def _server_words(directory: Path, modules: Path) -> list[str]:
    with as_file(files("mosaic_gateway.engines.pglite") / "sidecar") as sidecar:
        node = find_node(os.environ.get("PATH"))
        words = [*node.command(), sidecar / "main.mjs", "--modules", modules, "--data", directory / "data"]
        return [str(word) for word in (*words, "--socket", directory / SOCKET)]


def _peer_words(directory: Path, modules: Path) -> list[str]:
    server = modules / "@electric-sql" / "pglite-socket" / "dist" / "scripts" / "server.js"
    return ["node", str(server), f"--db={directory / 'data'}", f"--path={directory / SOCKET}", "--max-connections=1"]


@contextmanager
def _served(words: list[str], directory: Path) -> Iterator[psycopg.Connection]:
    """Run a server and yield a connection to it."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            ends = time.monotonic() + LIMIT
            while not (directory / SOCKET).exists():
                if process.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError(f"{words} did not start")
                time.sleep(0.05)
            opened = psycopg.connect(
                host=str(directory), user="postgres", dbname="postgres", sslmode="disable", autocommit=True
            )
            with closing(opened) as connection:
                yield connection
        finally:
            process.terminate()
            process.wait(LIMIT)


@contextmanager
def _native(directory: Path, rows: Path, modules: Path) -> Iterator[Callable[[], float]]:
    """Yield a function that copies *rows* with PGlite and returns the seconds that it took."""
    words = ["node", str(NATIVE), str(directory / "data"), str(rows)]
    environ = {**os.environ, "NODE_PATH": str(modules)}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        stdin, stdout = process.stdin, process.stdout
        stdout.readline()

        def copy() -> float:
            stdin.write("copy\n")
            stdin.flush()
            return float(stdout.readline())

        yield copy
        stdin.close()
        process.wait(LIMIT)
