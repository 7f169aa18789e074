"""Mutations of the source tree that damage the SQL in a wheel, and the gates that detect them.

Gates: "build hook" (no archive is built), and for archives built with hooks disabled "check_dist", "wheel tests"
(test_installed.py against the wheel built from the sdist) and "runtime" (`Bundle.load`).
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
    """A clean copy of the project in a separate parent directory."""
    return clean_copy(tmp_path / "parent" / "project")


@pytest.fixture
def caught(tree: Path, tmp_path: Path, build_both: Callable[..., str]) -> Callable[..., Caught]:
    """Build the tree, run every gate on the result, and return gate → output of the gates that failed."""

    def run(environ: dict[str, str] | None = None) -> Caught:
        out = tmp_path / "out"
        failure = build_both(tree, out, tmp_path / "unpacked", environ=environ)
        if failure:
            assert "MigrationsRefusedError" in failure
            return {"build hook": failure}
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
    """Run Python, with *path* in PYTHONPATH if given; return its output if it failed, else an empty string."""
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
    """Add a migration that is not in the hash lock."""
    (tree / SQL / "gateway" / "0010_draft.sql").write_text("DROP TABLE users;\n")
    return "0010_draft.sql is not in the hash lock"


def one_byte_changed(tree: Path) -> str:
    """Change one byte of a migration of the other bundle."""
    victim = _migration(tree, "storage", 0)
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return f"{victim.name} differs from the hash lock"


def journal_entry_without_file(tree: Path) -> str:
    """Delete a migration and update the lock, so that only the journal still lists it."""
    victim = _migration(tree, "gateway", 5)
    victim.unlink()
    _relock(tree / SQL / "gateway")
    return f"{victim.name} is named by the journal but does not exist"


def file_without_journal_entry(tree: Path) -> str:
    """Delete the last entry of the journal and update the lock, so that the migration would never run."""
    bundle = tree / SQL / "gateway"
    journal = json.loads((bundle / JOURNAL_NAME).read_text())
    dropped = journal["entries"].pop()
    (bundle / JOURNAL_NAME).write_text(json.dumps(journal))
    _relock(bundle)
    return f"{dropped['tag']}.sql has no entry in the journal"


def ignored_by_git_unprotected(tree: Path) -> str:
    """Match the SQL in .gitignore, and enable ignore rules for the build."""
    ignored_by_git(tree)
    return _unprotect(tree)


def ignored_by_a_parent_unprotected(tree: Path) -> str:
    """Match the SQL in the .gitignore of an enclosing repository, and enable ignore rules for the build."""
    ignored_by_a_parent(tree)
    return _unprotect(tree)


def dropped_from_the_sdist(tree: Path) -> str:
    """Exclude the SQL only from the sdist: the tree and a wheel built from the tree are complete."""
    _edit(tree, 'exclude = ["node_modules", ".hypothesis"]', 'exclude = ["*.sql"]')
    return "there is no SQL file in gateway"


def ignored_by_git(tree: Path) -> None:
    """Match the SQL, which git tracks anyway, in the project's .gitignore."""
    _git_init(tree)
    with (tree / ".gitignore").open("a") as stream:
        stream.write("*.sql\n")


def ignored_by_a_parent(tree: Path) -> None:
    """Match the SQL in the .gitignore of the enclosing repository."""
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
    return "there is no SQL file in gateway"


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


def test_unchanged_project_passes_every_gate(caught: Callable[..., Caught]) -> None:
    """The unchanged project builds, and no gate fails."""
    assert caught() == {}


@pytest.mark.parametrize("ignore", [ignored_by_git, ignored_by_a_parent])
def test_ignored_sql_is_shipped(ignore: Callable[[Path], None], tree: Path, caught: Callable[..., Caught]) -> None:
    """With the configuration in pyproject.toml, ignore rules do not apply to the SQL."""
    ignore(tree)

    assert caught() == {}


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_build_hook_refuses(
    mutate: Callable[[Path], str], tree: Path, tmp_path: Path, caught: Callable[..., Caught]
) -> None:
    """The build fails, names the fault, and leaves no archive."""
    fault = mutate(tree)

    failed = caught()

    assert failed.keys() == {"build hook"}
    assert fault in failed["build hook"]
    assert not [*tmp_path.glob("out/*")]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_disabled_hooks_are_caught_after_the_build(
    mutate: Callable[[Path], str], tree: Path, caught: Callable[..., Caught]
) -> None:
    """With hooks disabled the archives are built, and every later gate fails and names the fault."""
    fault = mutate(tree)

    failed = caught(NO_HOOKS)

    assert failed.keys() == AFTER_THE_BUILD
    assert {gate for gate, output in failed.items() if fault in output} == AFTER_THE_BUILD


def test_editable_build_works(tree: Path, tmp_path: Path) -> None:
    """An editable wheel of the unchanged project is built."""
    assert not _build_editable(tree, tmp_path)
    assert [*tmp_path.glob("*.whl")]


def test_editable_build_checks_the_source_tree(tree: Path, tmp_path: Path) -> None:
    """An editable wheel of a faulty tree is refused."""
    fault = one_byte_changed(tree)

    assert fault in _build_editable(tree, tmp_path)
    assert not [*tmp_path.glob("*.whl")]


def _build_editable(tree: Path, out: Path) -> str:
    script = f"import os, hatchling.build; os.chdir({str(tree)!r}); hatchling.build.build_editable({str(out)!r})"
    return _python(["-c", script])
