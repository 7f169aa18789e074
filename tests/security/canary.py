"""Files that must not be changed or read: a closed directory of root's, and the home of another tenant.

Nearly every file contains `TOKEN`, so that one search finds what leaked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import stat
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.security.machine import HOMES, Machine

__all__ = [
    "CANARY",
    "OLD_BACKUPS",
    "TENANT",
    "TENANT_UID",
    "TOKEN",
    "TreeState",
    "create_watched",
    "leaks",
    "stamp",
    "tree_state",
]

CANARY = f"{HOMES}/canary"
TENANT = f"{HOMES}/tenant"
TENANT_UID = 54321
#: Content of root's and the tenant's files; has the form of a secret.
TOKEN = f"canary{secrets.token_hex(16)}"
OLD_BACKUPS = ("20200101T000000Z-0.1.0", "20200102T000000Z-0.1.0", "20200103T000000Z-0.1.0")

Facts = tuple[object, ...]
TreeState = dict[str, Facts]


@dataclass(frozen=True, slots=True)
class _File:
    content: str
    mode: int = 0o600


def _manifest(name: str) -> str:
    day = f"{name[:4]}-{name[4:6]}-{name[6:8]}"
    return json.dumps({
        "backup": 1, "instance_id": TOKEN, "created_at": f"{day}T00:00:00+00:00", "version": "0.1.0",
        "engine": "postgres", "kind": "cold", "files": [], "server_version": None, "system_identifier": None,
        "schema": None, "tables": None, "objects": None, "verified_at": None,
    })  # fmt: skip


#: Names that also exist in a home, and names of temporary files that the gateway may remove.
FILES = {
    "shadow": _File(f"root:{TOKEN}:19000:0:99999:7:::\n"),
    "readable": _File(f"{TOKEN}\n", 0o644),
    "program": _File(f"#!/bin/sh\necho {TOKEN}\n", 0o4755),
    "auth-secret": _File(f"{TOKEN}\n"),
    "config.toml": _File(f'host = "127.0.0.1"\nbase_url = "http://{TOKEN}.example"\n'),
    "settings.toml": _File(f'{TOKEN} = "{TOKEN}"\n'),
    "receipt.json": _File(json.dumps({"receipt": 1, "instance_id": TOKEN})),
    "journal.jsonl": _File(json.dumps({"verb": TOKEN, "step": TOKEN, "event": "begin"}) + "\n"),
    "manifest.json": _File(_manifest(OLD_BACKUPS[0])),
    "gateway.log": _File(f"{TOKEN} one\n{TOKEN} two\n", 0o640),
    "postgres.log": _File(f"{TOKEN} one\n"),
    "supervisor.lock": _File(json.dumps({"pid": 1, "note": TOKEN})),
    "sub/file": _File(f"{TOKEN}\n", 0o640),
    ".receipt.json.0123abcd.tmp": _File(TOKEN),
    ".gateway-9.9.9.erased/file": _File(TOKEN),
    ".gateway-9.9.9.removed/file": _File(TOKEN),
    ".gateway-9.9.9.0123abcd.tmp/file": _File(TOKEN),
    ".20200101T000000Z-0.1.0.0123abcd.tmp/file": _File(TOKEN),
    "postgres-18/PG_VERSION": _File("18\n"),
    "postgres-18/file": _File(TOKEN),
    **{f"{name}/manifest.json": _File(_manifest(name)) for name in OLD_BACKUPS},
}
#: The files of a tenant's home that a backup contains.
TENANTS = {
    "secrets/auth-secret": _File(TOKEN),
    "config.toml": _File(f'base_url = "http://{TOKEN}.example"\n'),
    "receipt.json": _File(json.dumps({"receipt": 1, "instance_id": TOKEN})),
    "data/postgres-18/PG_VERSION": _File("18\n"),
    "data/postgres-18/file": _File(TOKEN),
}


def create_watched(machine: Machine) -> None:
    """Create root's directory and the tenant's home."""
    _create(machine.file(CANARY), FILES)
    _create(machine.file(TENANT), TENANTS)
    (machine.file(CANARY) / "link").symlink_to("shadow")
    with suppress(OSError):  # the file system has no extended attributes
        os.setxattr(machine.file(CANARY) / "shadow", "user.note", b"root's own")
    tenant = machine.file(TENANT)
    for path in (tenant, *tenant.rglob("*")):
        os.chown(path, TENANT_UID, TENANT_UID)


def _create(directory: Path, files: dict[str, _File]) -> None:
    directory.mkdir(mode=0o700)
    for name, file in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
        path.write_text(file.content)
        path.chmod(file.mode)


def tree_state(machine: Machine) -> TreeState:
    """Return status, content digest and extended attributes of every file of root's and the tenant's."""
    tops = (machine.file(CANARY), machine.file(TENANT))
    return {str(path.relative_to(top.parent)): _facts(path) for top in tops for path in (top, *sorted(top.rglob("*")))}


def _facts(path: Path) -> Facts:
    status = path.lstat()
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    ownership = (status.st_uid, status.st_gid, oct(status.st_mode), status.st_nlink)
    return (*ownership, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content, tuple(sorted(xattrs.items())))


def stamp(machine: Machine) -> Path:
    """Create a file whose change time marks the start of an attack, for `leaks`."""
    path = machine.ground.seen_from_here(f"{machine.layer}/stamp")
    path.write_text("")
    return path


def leaks(machine: Machine, since: Path) -> list[str]:
    """Return the files changed *since* a stamp that contain `TOKEN`, except the watched files.

    Archives are searched too.
    """
    tops = [machine.ground.seen_from_here(f"{machine.layer}/{part}") for part in ("homes", "upper")]
    watched = ["-path", f"*/homes/{Path(CANARY).name}", "-o", "-path", f"*/homes/{Path(TENANT).name}"]
    changed = ["-type", "f", "-cnewer", str(since)]
    search = ["grep", "--files-with-matches", "--text", "--fixed-strings", TOKEN]
    words = ["find", *map(str, tops), "(", *watched, ")", "-prune", "-o", *changed, "-exec", *search, "{}", "+"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    files = [path.partition(f"{machine.layer}/")[2] for path in done.stdout.splitlines()]
    archives = [path for path in tops[0].glob("*.tar.gz") if path.is_file() and not path.is_symlink()]
    return files + [path.name for path in archives if _contains_token(path)]


def _contains_token(path: Path) -> bool:
    content = path.read_bytes()
    if not content:  # the verb failed before it wrote anything
        return False
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        streams = [archive.extractfile(member) for member in archive.getmembers()]
        return any(stream is not None and TOKEN.encode() in stream.read() for stream in streams)
