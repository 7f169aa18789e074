"""Files and other objects that the account can plant in its home.

`KINDS` maps a name to a shell script that replaces "$1" by such an object. It is run as the account, in the home; "$2"
is the corresponding file of root's. `PLACES` are the paths of a home that verbs read.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.security.canary import CANARY, TENANT_UID
from tests.security.installation import THEIRS, Installation, recorder
from tests.security.machine import HOMES

__all__ = ["KINDS", "PLACES", "SHARED", "Place", "applicable", "plant", "prepare", "products", "rounds"]

#: Files of root's and of the tenant's that every user can write to, so the account can create hard links to them.
SHARED = f"{HOMES}/shared"
PROGRAMS = ("postgres", "initdb", "pg_dump", "pg_ctl", "node", "npm", "mosaic-gateway", "python3")
DEEP = 100_000  # brackets
HUGE = 100 << 20  # bytes
SOCKETS = "import socket, sys; [socket.socket(socket.AF_UNIX).bind(path) for path in sys.argv[1:]]"


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the home, and its counterpart in root's directory `CANARY`.

    ``is_vital``: verbs fail without it, so it is planted alone. ``values`` are well-formed contents with wrong or
    foreign values, for JSON and TOML.
    """

    path: str
    counterpart: str = "shadow"
    is_vital: bool = False
    is_directory: bool = False
    values: tuple[str, ...] = ()


def _jsons(**fields: object) -> tuple[str, ...]:
    """Return JSON texts with wrong types and odd values, in all fields or in one field, and malformed texts."""
    odd: list[object] = [
        None, True, -1, 1e308, 2**70, "", "x" * 5000, "a\0b", "a\nb", "../../../canary", CANARY, "\ud800",
        [], [[]], {}, {"a": 1}, ["../..", CANARY, "a\nb"],
    ]  # fmt: skip
    texts = [json.dumps(dict.fromkeys(fields, value)) for value in odd]
    texts += [json.dumps({**fields, name: value}) for name in fields for value in odd]
    return (*texts, "[]", "1", "null", '"x"', "{", "", "\xff", '{"a": 1, "a": 2}', '{"pid": NaN}', "1" * 5000)


RECEIPT = _jsons(
    receipt=1, instance_id="0123456789abcdef", state="installed", version="0.1.0", engine="postgres",
    created_at="2026-01-01T00:00:00+00:00", home_created=True, parents_created=[CANARY], account="victim",
    account_created=True, schema=None, kept=["../../canary"], system_identifier=1, secret_check=None,
    engine_reason="", caches=[CANARY], service={"manager": "systemd", "name": "sshd.service", "text": ""},
    service_wanted=True, command=CANARY,
)  # fmt: skip
UPGRADE = _jsons(
    phase="changing", source_version="0.0.1", source_program="../../../canary", target_version="0.2.0",
    target_program=CANARY, ran=True, needs_setup=None, backup="../../canary",
)  # fmt: skip
LAST = _jsons(
    source_version="0.0.1", source_program="../../../canary", source_schema=None, target_version="0.1.0",
    backup=CANARY, written=None,
)  # fmt: skip
MANIFESTS = _jsons(
    backup=1, instance_id="x", created_at="2026", version="0.1.0", engine="postgres", kind="cold",
    files=[["../../../canary/shadow", 1, ""], [f"{CANARY}/shadow", 1, ""], ["a\0b", 1, ""], ["a\nb", 1, ""]],
    server_version="18", system_identifier=1, schema=None, tables=None, objects=None, verified_at=None,
)  # fmt: skip
PROGRAM = _jsons(snapshot=2, version="0.1.0", python=f"{THEIRS}/bin/python3", files={"../../x": [1, ""]}, identity="")
JOURNAL = _jsons(at="2026", verb="install", step="account", event="begin")
LOCK = _jsons(pid=1, verb="upgrade", url=f"http://127.0.0.1:1/{'x' * 500}", local_url="file:///etc/shadow", version="1")
SETTINGS = (
    f'postgres_bin = "{THEIRS}/bin"\n',
    f'pglite_dir = "{THEIRS}/bin"\nengine = "pglite"\n', "port = 80\n", "port = -1\n",
    'port = "1e3"\n', "host = 1\n", 'host = "a\\u0000b"\n', 'host = "\\u001b[2J"\n', 'base_url = "javascript:x"\n',
    'engine = "server"\ndatabase_url = "host=/var/lib/gateways/canary"\n',
    'engine = "server"\ndatabase_url = "postgresql:///x?passfile=/var/lib/gateways/canary/shadow"\n',
    "x = 1\n", "port = [[[\n", "port = 1\nport = 2\n", "\xff", "", 'host = "' + "x" * 5000 + '"\n', "[port]\na = 1\n",
    "port = 0x1F90\n", "port = 1979-05-27\n", 'database_url = "\\u0000"\nengine = "server"\n',
)  # fmt: skip
SECRETS = ("", "\n", "short", "\xff", "a\0b", "a b\nc", "x" * 100_000)
PLACES = (
    Place("config.toml", "config.toml", is_vital=True, values=SETTINGS),
    Place("receipt.json", "receipt.json", is_vital=True, values=RECEIPT),
    Place("upgrade.json", "receipt.json", is_vital=True, values=UPGRADE),
    Place("secrets/auth-secret", "auth-secret", is_vital=True, values=SECRETS),
    Place(".lock", "supervisor.lock", is_vital=True, values=LOCK),
    Place("journal.jsonl", "journal.jsonl", is_vital=True, values=JOURNAL),
    Place("runtime", "", is_vital=True, is_directory=True),
    Place("data", "", is_vital=True, is_directory=True),
    Place("last-upgrade.json", "receipt.json", values=LAST),
    Place("run/supervisor.lock", "supervisor.lock", values=LOCK),
    Place("run/gateway.lock", "supervisor.lock", values=LOCK),
    Place("run/engine.lock", "supervisor.lock", values=LOCK),
    Place("logs/gateway.log", "gateway.log", values=SECRETS),
    Place("logs/postgres.log", "postgres.log", values=SECRETS),
    Place("secrets/other", values=SECRETS),
    Place("backups/20990101T000000Z-9.9.9/manifest.json", "manifest.json", values=MANIFESTS),
    Place("backups/20990102T000000Z-9.9.9", "", is_directory=True),
    Place("runtime/current", "", is_directory=True),
    Place("runtime/gateway-9.9.9/manifest.json", "manifest.json", values=PROGRAM),
    Place("data/postgres-18/postmaster.pid", values=SECRETS),
    Place("bin/mosaic-gateway", "program", values=SECRETS),
    Place(".restoring/state.json", "receipt.json", values=_jsons(parts=["../canary", CANARY], present=["data"])),
)

#: Moves what is at "$1" away; it is not deleted, because files in it may be root's.
PUT = (
    'mkdir -p "$(dirname "$1")"\n'
    f'if [ -e "$1" ] || [ -L "$1" ]; then mv "$1" "$(mktemp -u {THEIRS}/aside/XXXXXX)"; fi\n'
)
KINDS = {
    "link": PUT + 'ln -s "$2" "$1"',
    "hard link": PUT + f'ln "{SHARED}/$3" "$1"',
    "fifo": PUT + 'mkfifo "$1"',
    "device": PUT + 'mv "$4" "$1"',
    "endless": PUT + 'ln -s /dev/zero "$1"',
    "loop": PUT + 'ln -s "$(basename "$1")" "$1"',
    "other type": f'if [ -d "$1" ] && [ ! -L "$1" ]; then {PUT}echo x > "$1"\nelse {PUT}mkdir -p "$1/inside"\nfi',
    "socket": PUT + 'mv "$5" "$1"',
    "huge": PUT + f'printf \'{{"a": "\' > "$1"; truncate -s {HUGE} "$1"',
    "deep": PUT + f'head -c {DEEP} /dev/zero | tr "\\\\0" "[" > "$1"',
    "closed": f'chmod 000 "$1" 2>/dev/null || {{ {PUT}echo x > "$1"; chmod 000 "$1"; }}',
    "values": PUT + 'cat > "$1"; chmod 600 "$1"',
}
FOR_FILES = {"hard link", "huge", "deep", "values"}


def applicable(place: Place, kind: str) -> bool:
    """Return whether *kind* makes sense at *place*."""
    return not (kind in FOR_FILES and place.is_directory) and (kind != "values" or bool(place.values))


def prepare(installation: Installation) -> None:
    """Create devices, sockets and files as root, which the account can move or link to, and programs as the account."""
    machine, (uid, gid) = installation.machine, installation.owner
    owner = ("-o", str(uid), "-g", str(gid))
    machine.check("install", "-d", "-m", "755", SHARED)
    machine.check("install", "-d", "-m", "755", *owner, f"{THEIRS}/aside")
    for name, file_owner in (("root", 0), ("tenant", TENANT_UID)):
        machine.check("install", "-m", "666", "-o", str(file_owner), "/dev/null", f"{SHARED}/{name}")
    devices = [f"{THEIRS}/zero-{number}" for number in range(len(PLACES))]
    machine.check("sh", "-ec", 'for path in "$@"; do mknod -m 666 "$path" c 1 5; done', "sh", *devices)
    sockets = [f"{THEIRS}/socket-{number}" for number in range(len(PLACES))]
    machine.check(sys.executable, "-I", "-c", SOCKETS, *sockets)
    machine.check("chown", f"{uid}:{gid}", *devices, *sockets)
    for name in PROGRAMS:
        installation.write_program(f"{THEIRS}/bin/{name}", recorder(name))


def plant(installation: Installation, pairs: Iterable[tuple[Place, str]], number: int) -> None:
    """Put each kind at its place, as the account; *number* chooses among values."""
    script: list[str] = []
    for place, kind in pairs:
        counterpart = f"{CANARY}/{place.counterpart}".rstrip("/")
        file_owner = ("root", "tenant")[number % 2]
        nodes = [f"{THEIRS}/{name}-{PLACES.index(place)}" for name in ("zero", "socket")]
        words = (place.path, counterpart, file_owner, *nodes)
        if kind == "values":
            installation.account(KINDS[kind], *words, stdin=place.values[number % len(place.values)])
        else:
            script += [f"set -- {shlex.join(words)}", KINDS[kind]]
    installation.account("\n".join(script))


def products() -> Iterator[tuple[Place, str]]:
    """Yield every place with every kind that makes sense there."""
    yield from ((place, kind) for place in PLACES for kind in KINDS if applicable(place, kind))


def rounds(verb: int, verbs: int) -> Iterator[Sequence[tuple[Place, str]]]:
    """Yield what is planted for each run of verb number *verb* of *verbs*.

    Over all verbs, every place is tested with every kind; over its rounds, each verb is tested with every kind. A vital
    place is planted alone; the others together, each with another kind.
    """
    vital = [(place, kind) for place, kind in products() if place.is_vital]
    yield from ([pair] for pair in vital[verb::verbs])
    others = [place for place in PLACES if not place.is_vital]
    names = list(KINDS)
    pairs = [(place, names[(index + verb) % len(names)]) for index, place in enumerate(others)]
    yield [(place, kind) for place, kind in pairs if applicable(place, kind)]
    with_values = [place for place in PLACES if place.is_vital and place.values]
    yield [(with_values[verb % len(with_values)], "values")]
