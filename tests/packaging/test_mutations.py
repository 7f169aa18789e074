"""Every way in which a wheel once lost its SQL, and the gate that catches it.

Gates: "build hook" (no archive gets built), and for archives built with hooks disabled "check_dist",
"wheel tests" (test_installed.py against the wheel that came from the sdist) and "runtime" (`Bundle.load`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, make_lock, read_directory

SQL = "src/mosaic_gateway/sql"
NO_HOOKS = {"HATCH_BUILD_NO_HOOKS": "1"}
AFTER_THE_BUILD = {"check_dist", "wheel tests", "runtime"}
LOAD = """
import sys
from mosaic_gateway.migrations.bundle import Bundle, BundleError
try:
    for name in ("gateway", "storage"):
        Bundle.load(name)
except BundleError as error:
    sys.exit(f"BundleError: {error}")
"""

Caught = dict[str, str]


@pytest.fixture
def tree(tmp_path: Path, clean_copy: Callable[[Path], Path]) -> Path:
    """A clean copy of the project, two directories deep, so that it can have a parent of its own."""
    return clean_copy(tmp_path / "parent" / "project")


@pytest.fixture
def caught(tree: Path, tmp_path: Path, build_both: Callable[..., str]) -> Callable[..., Caught]:
    """Build the tree, put the result through every gate, return what each gate that caught something said."""

    def run(environ: dict[str, str] | None = None) -> Caught:
        out = tmp_path / "out"
        refused = build_both(tree, out, tmp_path / "unpacked", environ=environ)
        if refused:
            assert "MigrationsRefusedError" in refused
            return {"build hook": refused}
        wheel = tmp_path / "wheel"
        [file] = out.glob("*.whl")
        zipfile.ZipFile(file).extractall(wheel)
        gates = {
            "check_dist": _python(["-m", "mosaic_gateway_installer.check_dist", str(out)]),
            "wheel tests": _python(_WHEEL_TESTS, wheel),
            "runtime": _python(["-c", LOAD], wheel),
        }
        return {gate: output for gate, output in gates.items() if output}

    return run


_WHEEL_TESTS = [
    "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q",
    str(Path(__file__).with_name("test_installed.py")),
]  # fmt: skip


def _python(arguments: list[str], path: Path | None = None) -> str:
    """Run Python, with *path* before all else if given; return its output if it failed, else an empty text."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    if path is not None:
        environ |= {"PYTHONPATH": str(path), "MOSAIC_GATEWAY_TEST_INSTALLED": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120, cwd="/")
    return done.stdout + done.stderr if done.returncode else ""


def one_file_missing(tree: Path) -> str:
    """Delete one migration."""
    victim = _migration(tree, "gateway", 3)
    victim.unlink()
    return f"{victim.name} is missing"


def one_file_too_many(tree: Path) -> str:
    """Leave a migration lying about that nobody locked."""
    (tree / SQL / "gateway" / "0010_draft.sql").write_text("DROP TABLE users;\n")
    return "0010_draft.sql is not in the hash lock"


def one_byte_changed(tree: Path) -> str:
    """Change one letter of one migration, of the other bundle."""
    victim = _migration(tree, "storage", 0)
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return f"{victim.name} differs from the hash lock"


def journal_entry_without_file(tree: Path) -> str:
    """Delete a migration and renew the lock: only the journal still knows it."""
    victim = _migration(tree, "gateway", 5)
    victim.unlink()
    _relock(tree / SQL / "gateway")
    return f"{victim.name} is named by the journal but is not there"


def file_without_journal_entry(tree: Path) -> str:
    """Drop the last entry of the journal and renew the lock: the migration would never be run."""
    bundle = tree / SQL / "gateway"
    journal = json.loads((bundle / JOURNAL_NAME).read_text())
    dropped = journal["entries"].pop()
    (bundle / JOURNAL_NAME).write_text(json.dumps(journal))
    _relock(bundle)
    return f"{dropped['tag']}.sql has no entry in the journal"


def ignored_by_git_unprotected(tree: Path) -> str:
    """Match the SQL in .gitignore, and let ignore rules decide what is built."""
    ignored_by_git(tree)
    return _unprotect(tree)


def ignored_by_a_parent_unprotected(tree: Path) -> str:
    """Match the SQL in the .gitignore of a repository around the project, and let it decide."""
    ignored_by_a_parent(tree)
    return _unprotect(tree)


def dropped_from_the_sdist(tree: Path) -> str:
    """Exclude the SQL from the sdist alone: the tree and a wheel built from the tree are whole."""
    _edit(tree, 'exclude = ["node_modules", ".hypothesis"]', 'exclude = ["*.sql"]')
    return "there is no SQL at all in gateway"


def ignored_by_git(tree: Path) -> None:
    """Match the SQL, which git tracks nevertheless, in the project's .gitignore."""
    _git_init(tree)
    with (tree / ".gitignore").open("a") as stream:
        stream.write("*.sql\n")


def ignored_by_a_parent(tree: Path) -> None:
    """Match the SQL in the .gitignore of the repository that holds the project."""
    (tree / ".gitignore").unlink()
    (tree.parent / ".gitignore").write_text("*.sql\n")
    _git_init(tree.parent)


def _migration(tree: Path, bundle: str, number: int) -> Path:
    [path] = (tree / SQL / bundle).glob(f"{number:04}_*.sql")
    return path


def _relock(bundle: Path) -> None:
    (bundle / LOCK_NAME).write_bytes(make_lock(bundle.name, read_directory(bundle)))


def _unprotect(tree: Path) -> str:
    _edit(tree, "ignore-vcs = true", "ignore-vcs = false")
    return "there is no SQL at all in gateway"


def _edit(tree: Path, old: str, new: str) -> None:
    path = tree / "pyproject.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def _git_init(directory: Path) -> None:
    for command in (["git", "init", "-q"], ["git", "add", "-A", "-f"]):
        subprocess.run(command, cwd=directory, check=True, timeout=60)


MUTATIONS = [
    one_file_missing,
    one_file_too_many,
    one_byte_changed,
    journal_entry_without_file,
    file_without_journal_entry,
    ignored_by_git_unprotected,
    ignored_by_a_parent_unprotected,
    dropped_from_the_sdist,
]


def test_whole_project_passes_every_gate(caught: Callable[..., Caught]) -> None:
    """The project as it is builds, and no gate objects."""
    assert caught() == {}


@pytest.mark.parametrize("ignore", [ignored_by_git, ignored_by_a_parent])
def test_ignored_sql_is_shipped_all_the_same(
    ignore: Callable[[Path], None], tree: Path, caught: Callable[..., Caught]
) -> None:
    """With the configuration that we ship, ignore rules do not reach the SQL."""
    ignore(tree)

    assert caught() == {}


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_build_hook_refuses(
    mutate: Callable[[Path], str], tree: Path, tmp_path: Path, caught: Callable[..., Caught]
) -> None:
    """The build fails, names the fault, and leaves no archive behind."""
    fault = mutate(tree)

    found = caught()

    assert found.keys() == {"build hook"}
    assert fault in found["build hook"]
    assert not [*tmp_path.glob("out/*")]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_disabled_hooks_are_caught_after_the_build(
    mutate: Callable[[Path], str], tree: Path, caught: Callable[..., Caught]
) -> None:
    """With hooks disabled the archives get built, and every later gate catches them and names the fault."""
    fault = mutate(tree)

    found = caught(NO_HOOKS)

    assert found.keys() == AFTER_THE_BUILD
    assert {gate for gate, output in found.items() if fault in output} == AFTER_THE_BUILD


def test_editable_build_works(tree: Path, tmp_path: Path) -> None:
    """An editable install of the whole project gets built."""
    assert not _build_editable(tree, tmp_path)
    assert [*tmp_path.glob("*.whl")]


def test_editable_build_checks_the_source_tree(tree: Path, tmp_path: Path) -> None:
    """An editable install of a faulty tree is refused."""
    fault = one_byte_changed(tree)

    assert fault in _build_editable(tree, tmp_path)
    assert not [*tmp_path.glob("*.whl")]


def _build_editable(tree: Path, out: Path) -> str:
    script = f"import os, hatchling.build; os.chdir({str(tree)!r}); hatchling.build.build_editable({str(out)!r})"
    return _python(["-c", script])
