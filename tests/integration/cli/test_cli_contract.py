"""The contract of all verbs of the runtime: envelope, exit code, help."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.support.cli_home import MakePlace, Place

PERSON = ("--name", "Ada", "--email", "ada@example.com")
#: All verbs that work on an installation, with their required options.
VERBS = [
    ("start",), ("stop",), ("restart",), ("status",), ("logs",), ("serve",), ("storage", "status"),
    ("storage", "migrate"), ("bootstrap", "status"), ("bootstrap", "link"),
    ("bootstrap", "setup", *PERSON, "--password-stdin"), ("auth", "users", "list"),
    ("auth", "users", "create", *PERSON, "--password-stdin"),
    ("auth", "users", "set-password", "--email", "ada@example.com", "--password-stdin"),
    ("auth", "users", "reset-link", "--email", "ada@example.com"),
    ("auth", "users", "set-role", "--email", "ada@example.com", "--role", "admin"),
    ("auth", "users", "ban", "--email", "ada@example.com"), ("auth", "users", "unban", "--email", "ada@example.com"),
    ("auth", "users", "remove", "--email", "ada@example.com", "--yes"), ("auth", "sessions", "list"),
    ("auth", "sessions", "revoke", "--email", "ada@example.com"), ("auth", "tokens", "list"),
    ("auth", "tokens", "create", "--email", "ada@example.com", "--name", "x", "--scope", "read"),
    ("auth", "tokens", "revoke", "--id", "x"),
]  # fmt: skip
GROUPS = [
    (), ("storage",), ("bootstrap",), ("auth",), ("auth", "users"), ("auth", "sessions"), ("auth", "tokens"),
    ("config",),
]  # fmt: skip
#: Modules that are slow to import and not needed for help.
HEAVY = ["psycopg", "psycopg_pool", "starlette", "pydantic", "rich", "uvicorn", "psutil", "asyncio", "platformdirs"]
HELP = f"""
import json, sys
from mosaic_gateway.cli.root import run
from mosaic_gateway_installer.cli import VERBS
for words in json.loads(sys.argv[1]):
    assert run(VERBS, [*words, "--help"]) == 0
    print(end="\\x1e")
print(*sorted(set(sys.modules) & set({HEAVY!r})))
"""
LIMIT = 30  # seconds


@pytest.mark.parametrize("words", VERBS, ids=lambda words: " ".join(w for w in words if not w.startswith("-")))
def test_no_installation(scratch_place: Place, words: tuple[str, ...]) -> None:
    """Without an installation, every verb fails with NOT_INSTALLED and exit code 3, and creates nothing."""
    error = scratch_place.ask(*words, code=3, stdin="long enough\n")
    assert error["code"] == "NOT_INSTALLED"
    assert str(scratch_place.home.path) in error["message"]
    assert not scratch_place.home.path.exists()


def test_plain_errors(scratch_place: Place) -> None:
    """Without --json, an error is printed to standard error with its code and hint."""
    done = scratch_place.run("status")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error [NOT_INSTALLED]: ")
    assert "hint: " in done.err


@pytest.fixture
def scratch_place(make_place: MakePlace) -> Place:
    """A home that does not exist."""
    created = make_place()
    return type(created)(type(created.home)(created.home.path / "none"), created.port)


def test_help() -> None:
    """``--help`` of each verb exits with code 0 and does not import slow modules."""
    verbs = [words[: 3 if words[0] == "auth" else 2 if words[0] in {"storage", "bootstrap"} else 1] for words in VERBS]
    done = subprocess.run(
        [sys.executable, "-P", "-c", HELP, json.dumps([*GROUPS, *verbs, ("config", "show")])],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    *helps, heavy = done.stdout.split("\x1e")
    assert heavy.split() == []
    for words, text in zip([*GROUPS, *verbs, ("config", "show")], helps, strict=True):
        assert text.startswith("Usage: " + " ".join(("mosaic-gateway", *words)))
        assert "--password TEXT" not in text
        if words not in GROUPS:
            assert "--home" in text
            assert "--json" in text


def test_wrong_usage_of_the_program(make_place: MakePlace) -> None:
    """An unknown verb or option is exit code 2, with and without --json."""
    place = make_place()
    for words in (("nonsense",), ("status", "--nonsense")):
        done = place.run(*words)
        assert (done.code, done.out) == (2, "")
        assert "No such" in done.err
        done = place.run(*words, "--json")
        assert done.code == 2
        assert json.loads(done.out)["error"]["code"] == "USAGE"


def test_damaged_settings(make_place: MakePlace) -> None:
    """An invalid settings file is exit code 2, and the error names the file."""
    place = make_place()
    for text, words in (
        ("port = ", ("config", "show")),
        ("port = 0", ("storage", "status")),
        ("colour = 1", ("start",)),
        ("engine = 'x'", ("serve",)),
    ):
        place.write(place.home.config_file, text)
        error = place.ask(*words, code=2)
        assert error["code"] == "CONFIG_INVALID"
        assert str(place.home.config_file) in error["message"]
    place.assert_nothing_runs()


def test_config_show(make_place: MakePlace) -> None:
    """Each setting is shown with its source, and secrets are masked."""
    place = make_place("postgresql://me:hidden-word@db.invalid/x")
    env = {"BETTER_AUTH_SECRET": "hidden-word-2", "MOSAIC_GATEWAY_HOST": "::1"}
    shown = place.ask("config", "show", env=env)["settings"]
    assert shown["database_url"] == {"value": "****", "source": str(place.home.config_file)}
    assert shown["auth_secret"] == {"value": "****", "source": "BETTER_AUTH_SECRET"}
    assert shown["host"] == {"value": "::1", "source": "MOSAIC_GATEWAY_HOST"}
    assert shown["port"] == {"value": str(place.port), "source": str(place.home.config_file)}
    assert shown["base_url"] == {"value": "", "source": "default"}
    without = place.ask("config", "show")["settings"]["auth_secret"]
    assert without == {"value": "****", "source": str(place.home.auth_secret)}
    done = place.run("config", "show", env=env)
    assert done.code == 0
    assert "hidden-word" not in done.out + done.err + json.dumps(shown)


def test_config_show_lists_the_rules_of_forward_authentication(make_place: MakePlace) -> None:
    """The rules are shown one by one, in the order in which they count; a wrong one is an error with its position."""
    place = make_place()
    rule = '[[forward.rules]]\nhost = "{}"\nallow = "{}"\n'
    with place.home.config_file.open("a") as file:
        file.write(rule.format("wiki.example.com", "signed-in") + rule.format("*.example.com", "role:admin"))
    shown = place.ask("config", "show")["settings"]
    source = str(place.home.config_file)
    assert shown["forward.user"] == {"value": "id", "source": source}
    assert shown["forward.rules 1"] == {"value": "wiki.example.com/* signed-in", "source": source}
    assert shown["forward.rules 2"] == {"value": "*.example.com/* role:admin", "source": source}
    assert "forward.rules 3" not in shown
    with place.home.config_file.open("a") as file:
        file.write(rule.format("x.example.com", "no one"))
    done = place.run("config", "show", "--json")
    assert "rule 3 of [[forward.rules]]: rule 2 decides" not in done.out
    assert "rule 3 of [[forward.rules]]: allow must be" in done.out


def test_home_from_the_environment(make_place: MakePlace) -> None:
    """MOSAIC_GATEWAY_HOME sets the home if --home is not given."""
    place = make_place()
    argv = place.argv("config", "show", "--json")
    done = subprocess.run(
        argv[:-2], check=True, capture_output=True, env=place.environ({"MOSAIC_GATEWAY_HOME": str(place.home.path)})
    )
    assert json.loads(done.stdout)["result"]["settings"]["home"]["value"] == str(place.home.path)


def _cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)


@pytest.mark.parametrize("words", [(), ("backup", "list")])
def test_h_is_help(words: tuple[str, ...]) -> None:
    """``-h`` prints the help of every command."""
    assert _cli(*words, "-h").stdout == _cli(*words, "--help").stdout != ""


@pytest.mark.parametrize(("words", "meant"), [(("instal",), "install"), (("backup", "lst"), "list")])
def test_a_mistyped_command_is_suggested(words: tuple[str, ...], meant: str) -> None:
    """The error names the command that is most similar."""
    done = _cli(*words)
    assert done.returncode == 2
    assert f"No such command '{words[-1]}'. Did you mean '{meant}'?" in done.stderr
    assert "Did you mean" not in _cli("xyzzy").stderr
