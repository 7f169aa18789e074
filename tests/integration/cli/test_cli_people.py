"""Users and the first admin: the verbs of ``auth users`` and ``bootstrap``, and the handling of passwords."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.support.cli_home import MakePlace, Place
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.migrations import Bundle, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETUP = ("bootstrap", "setup", "--name", "Ada Lovelace", "--email", "ada@example.com")
CREATE = ("auth", "users", "create", "--name", "Bob", "--email", "bob@example.com")
SET = ("auth", "users", "set-password", "--email", "bob@example.com")
WORD = "Pässwörd-\N{PILE OF POO}-ﬁ"


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer) -> str:
    """The name of a template database with both schemas."""
    name = postgres_server.create_database(prefix="cli")
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    return name


@pytest.fixture
def people(make_place: MakePlace, postgres_server: PostgresServer, migrated: str) -> Place:
    """A home whose database has its schema and no users."""
    return make_place(postgres_server.conninfo(postgres_server.create_database(template=migrated, prefix="cli")))


def sign_in(place: Place, email: str, password: str) -> tuple[int, str]:
    """Sign in over HTTP; return the status code and the cookie."""
    answer = place.request("POST", "/api/auth/sign-in/email", {"email": email, "password": password})
    return answer.status, answer.headers.get("set-cookie", "").split(";")[0]


def test_first_admin(people: Place) -> None:
    """``bootstrap setup`` creates the admin once; status and list show it."""
    assert people.ask("bootstrap", "status") == {"needsSetup": True}
    assert people.run("auth", "users", "list").out == "No users.\n"
    user = people.ask(*SETUP, "--password-stdin", stdin=f"{WORD}\n")["user"]
    assert (user["email"], user["name"], user["role"]) == ("ada@example.com", "Ada Lovelace", "admin")
    assert people.ask("bootstrap", "status") == {"needsSetup": False}
    assert [listed["id"] for listed in people.ask("auth", "users", "list")["users"]] == [user["id"]]
    again = people.ask(*SETUP, "--password-stdin", stdin=f"{WORD}\n", code=7)
    assert again["code"] == "ADMIN_EXISTS"
    assert people.ask("bootstrap", "link", code=7)["code"] == "ADMIN_EXISTS"


def test_link(people: Place) -> None:
    """A link works once; a newer one invalidates an older one."""
    people.ask("start")
    urls = [people.ask("bootstrap", "link")["url"] for _ in range(2)]
    assert urls[0].startswith(f"http://127.0.0.1:{people.port}/setup#token=")
    body = {"name": "Ada", "email": "ada@example.com", "password": WORD}
    statuses = []
    for url in (urls[0], urls[1], urls[1]):
        token = url.partition("#token=")[2]
        statuses.append(people.request("POST", "/api/bootstrap/setup", body, headers={"x-setup-token": token}).status)
        assert token not in people.log()
    assert statuses == [403, 201, 409]


@pytest.mark.slow
def test_set_password_ends_sessions(people: Place, tmp_path: Path) -> None:
    """After a change, the new password works, the old one does not, and existing sessions are ended."""
    people.ask("start")
    file = tmp_path / "password"
    file.write_bytes(f"{WORD}\r\n".encode())
    people.ask(*CREATE, "--password-file", str(file))
    status, cookie = sign_in(people, "bob@example.com", WORD)
    assert status == 200
    assert people.request("GET", "/api/auth/get-session", headers={"cookie": cookie}).json["user"]["name"] == "Bob"
    people.ask(*SET, "--password-stdin", stdin="another one")
    assert people.request("GET", "/api/auth/get-session", headers={"cookie": cookie}).json is None
    assert sign_in(people, "bob@example.com", WORD)[0] == 401
    assert sign_in(people, "bob@example.com", "another one")[0] == 200


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        ((*CREATE, "--password-stdin"), "short", "PASSWORD_TOO_SHORT"),
        ((*CREATE, "--password-stdin"), "x" * 129, "PASSWORD_TOO_LONG"),
        ((*CREATE, "--password-stdin"), "", "PASSWORD_SOURCE"),
        ((*CREATE, "--password-stdin"), "\n", "PASSWORD_SOURCE"),
        ((*CREATE, "--password-stdin"), b"\xff\xfe long enough", "PASSWORD_SOURCE"),
        ((*CREATE, "--password-file", "/none/such"), "", "NAMED_FILE"),
        ((*CREATE, "--password-file", "/"), "", "NAMED_FILE"),
        ((*CREATE, "--password-stdin", "--password-file", "/dev/null"), "long enough", "PASSWORD_SOURCE"),
        (CREATE, "long enough", "PASSWORD_SOURCE"),
        ((*CREATE[:-1], "no address", "--password-stdin"), "long enough", "INVALID_EMAIL"),
        ((*SET, "--password-stdin"), "long enough", "USER_NOT_FOUND"),
        ((*CREATE, "--role", "root", "--password-stdin"), "long enough", "USAGE"),
    ],
)
def test_refused(people: Place, words: tuple[str, ...], stdin: str | bytes, code: str) -> None:
    """Invalid input is refused with exit code 2."""
    assert people.ask(*words, stdin=stdin, code=2)["code"] == code


def test_duplicate_address(people: Place) -> None:
    """A second user with the same email address in another case is refused."""
    people.ask(*CREATE, "--password-stdin", stdin=WORD)
    error = people.ask(*CREATE[:-1], "BOB@Example.com", "--password-stdin", stdin=WORD, code=2)
    assert error["code"] == "USER_EXISTS"
    assert len(people.ask("auth", "users", "list")["users"]) == 1


def test_password_as_an_argument(people: Place) -> None:
    """A password as an argument is a usage error."""
    for words in ((*CREATE, "--password", WORD), (*CREATE, f"--password={WORD}"), (*CREATE, "-p", WORD)):
        assert people.ask(*words, code=2)["code"] == "USAGE"
    assert people.ask("auth", "users", "list")["users"] == []


def test_prompt(people: Place) -> None:
    """The prompt asks for the password twice without echo, and repeats if the two differ."""
    code, shown = on_a_terminal(people, [*CREATE], ["first try", "another", WORD, WORD])
    assert code == 0, shown
    assert "Created bob@example.com" in shown
    assert "do not match" in shown
    for word in ("first try", "another", WORD):
        assert word not in shown
    people.ask("start")
    assert sign_in(people, "bob@example.com", WORD)[0] == 200


@pytest.mark.slow
def test_prompt_interrupted(people: Place) -> None:
    """Ctrl-C at the prompt exits with code 130, and no user is created."""
    code, _ = on_a_terminal(people, [*CREATE], ["\x03"])
    assert code == 130
    assert people.ask("auth", "users", "list")["users"] == []


def on_a_terminal(place: Place, words: list[str], answers: list[str]) -> tuple[int, str]:
    """Run a verb on a new terminal, answer each prompt, and return the exit code and the output."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        place.argv(*words), stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd="/",
        env=place.environ({"PYTHONIOENCODING": "utf-8", "TERM": "dumb"}), preexec_fn=_take_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    asked = 0
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if not select.select([controller], [], [], 0.1)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                chunk = os.read(controller, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk
            if shown.count(b": ") > asked and shown.endswith(b": ") and answers:
                asked = shown.count(b": ")
                os.write(controller, (answers.pop(0) + "\n").encode())
        return process.wait(30), shown.decode(errors="replace")
    finally:
        os.close(controller)
        process.kill()
        process.wait()


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - in the child
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def watched(people: Place) -> Iterator[set[str]]:
    """The command lines of all processes of the home that were seen during the test."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in psutil.process_iter():
                try:
                    words = process.cmdline()
                except (psutil.Error, OSError):
                    continue
                if any(str(people.home.path) in word for word in words):
                    seen.add(" ".join(words))
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    over.set()
    thread.join()


@pytest.mark.slow
def test_secrets_are_not_exposed(people: Place, watched: set[str], tmp_path: Path) -> None:
    """No password or key appears in a command line, output, log or other file of the home."""
    done: list[Any] = [people.run("start")]
    done.append(people.run(*SETUP, "--password-stdin", stdin=WORD))
    done.append(people.run(*SETUP, "--password-stdin", "--json", stdin=WORD))
    done.append(people.run(*CREATE, "--password-stdin", "--json", stdin=WORD + "2"))
    done.append(people.run(*SET, "--password-stdin", "--json", stdin=WORD + "3"))
    done.append(people.run("auth", "users", "list", "--json"))
    done.append(people.run("config", "show", "--json"))
    done.append(people.run("status", "--json"))
    sign_in(people, "ada@example.com", WORD + "wrong")
    done.append(people.run("logs", "--json"))
    assert any("auth users create" in line for line in watched)
    key = people.home.auth_secret.read_text().strip()
    texts = [*watched, *(f"{one.out}{one.err}" for one in done), people.log()]
    texts += [
        path.read_text(errors="replace")
        for path in people.home.path.rglob("*")
        if path.is_file() and path.parent != people.home.secrets
    ]
    for secret in (WORD, WORD.encode().decode("latin-1"), key):
        assert not [text for text in texts if secret in text]
