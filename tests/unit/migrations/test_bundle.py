from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import mosaic_gateway
from mosaic_gateway.errors import ExitCode
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle, BundleError
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, make_lock, read_directory

PACKAGE = Path(mosaic_gateway.__file__).parent
LEDGER = LEDGERS["gateway"]
FROM_ZIP = """
import mosaic_gateway
from mosaic_gateway.migrations import Bundle
print(mosaic_gateway.__file__)
for name in ("gateway", "storage"):
    for migration in Bundle.load(name).migrations:
        print(migration.tag, migration.hash)
"""


@pytest.fixture
def shipped() -> dict[str, bytes]:
    """The files of the gateway's bundle, for tests that damage them."""
    return read_directory(PACKAGE / "sql" / "gateway")


def load(contents: dict[str, bytes]) -> Bundle:
    """Return the bundle of *contents*."""
    return Bundle.from_files("gateway", contents, ledger=LEDGER)


def relocked(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return *contents* with a lock that matches them."""
    return {**contents, LOCK_NAME: make_lock("gateway", contents)}


def test_the_gateway_bundle_is_complete() -> None:
    """Ten migrations in journal order, with the published, decreasing ``when`` of 0009 and the hashes of the files."""
    bundle = Bundle.load("gateway")
    assert [m.tag[:4] for m in bundle.migrations] == [f"{number:04}" for number in range(10)]
    assert [m.when for m in bundle.migrations[8:]] == [1776822435828, 1745280000000]
    assert (bundle.ledger.schema, bundle.ledger.table) == ("drizzle", "__drizzle_migrations")
    for migration in bundle.migrations:
        content = (PACKAGE / "sql" / "gateway" / f"{migration.tag}.sql").read_bytes()
        assert migration.hash == hashlib.sha256(content).hexdigest()
        assert migration.statements
    # The first one is preceded by a comment for lint.
    assert [s.sql.rpartition("\n")[2] for s in bundle.migrations[9].statements] == [
        """ALTER TYPE "public"."grant_status" ADD VALUE 'pending';""",
        """ALTER TABLE "federation_grants" ALTER COLUMN "status" SET DEFAULT 'pending';""",
    ]


def test_the_storage_bundle_is_complete_and_has_its_own_ledger() -> None:
    """In a shared ledger the rows of one bundle would be unknown rows to the other."""
    bundle = Bundle.load("storage")
    assert [m.tag for m in bundle.migrations] == ["0000_documents"]
    assert bundle.ledger != Bundle.load("gateway").ledger


def test_the_package_works_from_a_zip(tmp_path: Path) -> None:
    """Both bundles are the same if the package is imported from an archive."""
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                target.write(path, Path("mosaic_gateway") / path.relative_to(PACKAGE))
    script = f"import sys; sys.path.insert(0, {str(archive)!r})\n{FROM_ZIP}"
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    origin, *listed = done.stdout.splitlines()
    assert origin.startswith(str(archive))
    assert listed == [f"{m.tag} {m.hash}" for name in LEDGERS for m in Bundle.load(name).migrations]


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    """Return a function that removes the file *name*."""
    return lambda contents: contents.__delitem__(name)


def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    """Return a function that replaces or adds the file *name*."""
    return lambda contents: contents.update({name: data})


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (drop("0003_api_tokens.sql"), "0003_api_tokens.sql"),
        (drop(JOURNAL_NAME), JOURNAL_NAME),
        (drop(LOCK_NAME), LOCK_NAME),
        (put("0003_api_tokens.sql", b"SELECT 1;"), "0003_api_tokens.sql"),
        (put("0003_api_tokens.sql", b""), "0003_api_tokens.sql"),
        (put("0010_more.sql", b"SELECT 1;"), "0010_more.sql"),
        (put("0003_api_tokens.sql~", b"SELECT 1;"), "0003_api_tokens.sql~"),
        (put(JOURNAL_NAME, b'{"entries": []}'), JOURNAL_NAME),
        (put(LOCK_NAME, b"{"), LOCK_NAME),
    ],
)
def test_a_damaged_bundle_is_refused(
    shipped: dict[str, bytes], damage: Callable[[dict[str, bytes]], None], named: str
) -> None:
    """A bundle with a missing, altered or extra file is refused, and the error names the file."""
    damage(shipped)
    with pytest.raises(BundleError) as caught:
        load(shipped)
    assert named in caught.value.message
    assert any(named in finding for finding in caught.value.details["findings"])
    assert (caught.value.code, caught.value.exit_code) == ("BUNDLE_INVALID", ExitCode.MIGRATION)
    assert caught.value.hint


def test_only_the_package_is_reinstalled(shipped: dict[str, bytes], tmp_path: Path) -> None:
    """The hint for a damaged folder names its lock and where it is, not this package."""
    for name, content in {**shipped, "0003_api_tokens.sql": b"SELECT 1;"}.items():
        path = tmp_path / "my folder" / "gateway" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(BundleError, match="differs from the hash lock") as caught:
        Bundle.from_directory(tmp_path / "my folder" / "gateway")
    assert "pip" not in str(caught.value.hint)
    assert str(caught.value.hint).endswith(f"python -m mosaic_gateway.migrations.gate '{tmp_path}/my folder/gateway'")
    assert (Bundle.load("gateway").packaged, load(shipped).packaged) == (True, False)


def test_a_bundle_without_any_sql_is_refused() -> None:
    """A package without SQL files is not accepted as an empty schema."""
    with pytest.raises(BundleError, match="no SQL file"):
        load({})


@pytest.mark.parametrize("damage", ["one byte", "truncated", "line ends"])
def test_every_file_is_checked(shipped: dict[str, bytes], damage: str) -> None:
    """A change of any file of the bundle is detected, including the journal."""
    for name in shipped.keys() - {LOCK_NAME}:
        data = shipped[name]
        other = {"one byte": data[:-1] + b"?", "truncated": data[:-1], "line ends": data.replace(b"\n", b"\r\n")}[
            damage
        ]
        if other == data:
            continue
        with pytest.raises(BundleError, match=name):
            load({**shipped, name: other})


def test_an_entry_without_a_time_stamp_is_refused_even_if_locked() -> None:
    """A valid lock does not make an invalid journal acceptable."""
    contents = {"a.sql": b"SELECT 1;", JOURNAL_NAME: b'{"entries": [{"tag": "a"}]}'}
    with pytest.raises(BundleError, match="no usable when"):
        load(relocked(contents))


def test_sql_that_is_not_utf8_is_refused_even_if_locked() -> None:
    """SQL that is not valid UTF-8 is refused."""
    journal = b'{"entries": [{"tag": "a", "when": 1}]}'
    contents = relocked({"a.sql": b"SELECT 1;", JOURNAL_NAME: journal})
    forged = contents[LOCK_NAME].replace(
        hashlib.sha256(b"SELECT 1;").hexdigest().encode(), hashlib.sha256(b"\xff").hexdigest().encode()
    )
    with pytest.raises(BundleError, match="utf-8"):
        load({"a.sql": b"\xff", JOURNAL_NAME: journal, LOCK_NAME: forged})
