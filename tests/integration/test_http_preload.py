from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.console_data import make_home

from mosaic_gateway.auth import accounts

#: Serves requests while opening any file of the interpreter, the package or a dependency fails.
SCRIPT = """
import asyncio, json, pathlib, re, sys, sysconfig
from mosaic_gateway.gateway.run.server import preload

preload()

import mosaic_gateway, uvicorn
from mosaic_gateway.config import Secret
from mosaic_gateway.gateway.app import Services, create_app, make_pool
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.gateway.pages import page_routes
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.installation.layout import Home

load_bundles()  # as `lifecycle.serve`
closed = (sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), mosaic_gateway.__path__[0])

def refuse(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(closed):
        raise PermissionError(13, "closed", arguments[0])
    if event == "import":
        raise PermissionError(13, "not preloaded", arguments[0])

sys.addaudithook(refuse)

PERSON = json.dumps({"name": "Ada", "email": "ada@example.com", "password": "p\\u00e4ss \\ud83d\\ude00 \\ud800"})
LONG = json.dumps({"email": "ada@example.com", "password": "x" * 200})
JSON = "application/json"
CALLS = [
    *[("GET", route.path, "", "", 200) for route in page_routes()],
    ("GET", "/healthz", "", "", 200),
    ("GET", "/readyz", "", "", 200),
    ("GET", "/nothing", "", "", 404),
    ("GET", "/api/console/overview", "", "", 401),
    ("POST", "/api/bootstrap/link", "", "", 200),
    ("DELETE", "/readyz", "", "", 405),
    ("GET", "/api/bootstrap/status", "", "", 200),
    ("POST", "/api/bootstrap/setup", JSON, "{}", 400),
    ("POST", "/api/bootstrap/setup", JSON, "\ufeff{", 400),
    ("POST", "/api/bootstrap/setup", JSON, PERSON, 201),
    ("POST", "/api/bootstrap/setup", JSON, PERSON, 409),
    ("GET", "/api/console/overview", "", "", 200),
    ("GET", "/api/console/activity?since=2026-01-31&person=a", "", "", 200),
    ("GET", "/api/console/activity/export?format=csv", "", "", 200),
    ("GET", "/api/console/services", "", "", 200),
    ("POST", "/api/auth/sign-in/email", JSON, PERSON, 200),
    ("POST", "/api/auth/sign-in/email", JSON, LONG, 400),
    ("POST", "/api/auth/sign-in/email", "application/x-www-form-urlencoded", "email=a%40b.co&password=%ff", 401),
    ("POST", "/api/auth/sign-in/email", "text/plain", "x", 415),
    ("GET", "/api/auth/get-session", "", "", 200),
    ("POST", "/api/auth/sign-out", "", "", 200),
    ("POST", "/api/auth/sign-out", JSON, "x" * 1100000, 413),
]

cookies = []

async def call(port, method, path, kind, body, token):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nX-Setup-Token: {token}\\r\\n"
    if kind:
        head += f"Content-Type: {kind}\\r\\n"
    if path.startswith("/api/console/"):
        head += f"Cookie: {'; '.join(cookies)}\\r\\n"
    data = body.encode()
    writer.write(f"{head}Content-Length: {len(data)}\\r\\n\\r\\n".encode() + data)
    answer = await reader.read()
    if answer.startswith(b"HTTP/1.1 201"):
        cookies[:] = re.findall(r"(?i)set-cookie: ([^;]+)", answer.decode("latin-1"))
    writer.close()
    return int(answer[9:12])

async def main(conninfo, token, home):
    services = Services(
        pool=make_pool(conninfo),
        auth_secret=Secret("x" * 32),
        web=WebSettings(base_url="http://x"),
        version="1",
        instance_id="i",
        home=Home(pathlib.Path(home)),
    )
    server = uvicorn.Server(uvicorn.Config(create_app(services), port=0, lifespan="on", ws="none", log_config=None))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for method, path, kind, body, status in CALLS:
            got = await call(port, method, path, kind, body, token)
            if got != status:
                print(method, path, "gave", got)
        server.should_exit = True
        await task

asyncio.run(main(*sys.stdin.read().split("\\n")))
print("done")
"""


def test_serving_reads_no_program_files(http_database: str, tmp_path: Path) -> None:
    """A gateway that can no longer read its own program after dropping root privileges serves every path."""
    token = accounts.issue_setup_token(http_database).token.reveal()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input="\n".join([http_database, token, str(make_home(tmp_path / "home").path)]),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
