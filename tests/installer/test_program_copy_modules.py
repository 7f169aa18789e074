"""The archive of a program copy's modules: its content, and the import of modules from it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from mosaic_gateway_installer.program_copy.distributions import SourceFile
from mosaic_gateway_installer.program_copy.tree_writer import Module, TreeWriter, archive_of, archived

LIMIT = 60.0  # seconds
TAG = sys.implementation.cache_tag


def _program_copy(scratch: Path, files: Mapping[str, str], *, stale: str | None = None) -> Path:
    """Return a directory with *files* (path → text) written as a program copy; *stale*: path of invalid byte code."""
    source, top = scratch / "source", scratch / "copy"
    top.mkdir()
    for path, text in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    if stale is not None:
        (source / stale).parent.mkdir()
        (source / stale).write_bytes(b"stale")
    descriptor = os.open(top, os.O_RDONLY)
    try:
        writer = TreeWriter(descriptor, public=False)
        writer.copy("thing", [SourceFile(f"{source}/{path}", path, None) for path in files])
        writer.write_modules()
    finally:
        os.close(descriptor)
    shutil.rmtree(source)
    return top


def _run(
    top: Path, code: str, *options: str, below: str = "", before: str = "exec", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run *code* with the modules of the program copy *top* importable, through a shell with the command *before*."""
    setup = (
        f"import sys; from mosaic_gateway_installer.program_copy.finder import install; install({str(top)!r});"
        f"sys.path.insert(0, {str(top / below)!r})\n"
    )
    return subprocess.run(
        ["sh", "-c", f'{before} "$@"', "sh", sys.executable, *options, "-c", setup + code],
        capture_output=True, text=True, timeout=LIMIT, check=check, cwd="/",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["one.py", "one.txt", "py.typed"], {"one.py"}),
        (["a/__init__.py", "a/b/__init__.py", "a/b/c.py"], {"a/__init__.py", "a/b/__init__.py", "a/b/c.py"}),
        (["a/__init__.py", "a/data/x.sql", "a/data/x.py"], {"a/__init__.py"}),
        (["space/part.py", "space/inner/__init__.py"], set()),
        (["a/__init__.py", "a/no-module.py", "a/scripts/run.py"], {"a/__init__.py"}),
        (["a/__init__.py", "a/b.py", f"a/b{EXTENSION_SUFFIXES[0]}"], {"a/__init__.py"}),
        (["a/__init__.py", f"a/__init__{EXTENSION_SUFFIXES[0]}", "a/b.py"], set()),
        (["thing-1.dist-info/x.py"], set()),
    ],
)  # fmt: skip
def test_modules_in_regular_packages_are_archived(paths: list[str], expected: set[str]) -> None:
    """Data, namespace packages, scripts and sources shadowed by a compiled module are not archived."""
    assert archived(paths) == expected


def test_the_archive_is_a_zip_file_and_the_index_has_its_offsets(scratch: Path) -> None:
    """zipfile can read and verify the archive; the index contains the offsets of sources and byte code."""
    modules = [
        Module(path="größe.py", source=b"x = 1\n", cached="__pycache__/größe.pyc", code=b"code", mtime=17),
        Module(path="a/__init__.py", source=b"", cached="", code=b"", mtime=2**32 - 1),
    ]
    content, index = archive_of(modules)
    assert archive_of(modules) == (content, index)
    (scratch / "modules.zip").write_bytes(content)
    with zipfile.ZipFile(scratch / "modules.zip") as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == {
            "größe.py": b"x = 1\n", "__pycache__/größe.pyc": b"code", "a/__init__.py": b"",
        }  # fmt: skip
    rows = {path: [*map(int, numbers.split(","))] for numbers, path in map(str.split, index.decode().splitlines())}
    offset, size, code, code_size, mtime = rows["größe.py"]
    assert (content[offset : offset + size], content[code : code + code_size], mtime) == (b"x = 1\n", b"code", 17)
    assert rows["a/__init__.py"][1:] == [0, 0, 0, 2**32 - 1]


def test_archived_modules_behave_like_files(scratch: Path) -> None:
    """Names, paths, sources, data and submodules in files are as if each module were a file."""
    top = _program_copy(
        scratch,
        {
            "a/__init__.py": "'''Doc.'''\n",
            "a/data.txt": "data",
            "a/b/__init__.py": "",
            "a/b/c.py": "def f():\n    return 1\n",
            "a/loose.py": "value = 2\n",
        },
    )
    (top / "a" / "beside.py").write_text("value = 3\n")
    assert not (top / "a" / "loose.py").exists()
    _run(
        top,
        "import inspect, importlib.util, importlib_resources, importlib.resources as r, a, a.b.c, a.loose, a.beside\n"
        f"top = {str(top)!r}\n"
        "assert (a.__file__, a.__path__, a.__doc__) == (f'{top}/a/__init__.py', [f'{top}/a'], 'Doc.')\n"
        f"assert (a.b.c.__file__, a.b.c.__package__) == (f'{{top}}/a/b/c.py', 'a.b')\n"
        f"assert a.b.c.__cached__ == f'{{top}}/a/b/__pycache__/c.{TAG}.pyc'\n"
        "assert (a.loose.value, a.beside.value) == (2, 3)\n"
        "assert inspect.getsource(a.b.c.f) == 'def f():\\n    return 1\\n'\n"
        "assert [x.files('a').joinpath('data.txt').read_text() for x in (r, importlib_resources)] == ['data'] * 2\n"
        "assert importlib.util.find_spec('a.gone') is importlib.util.find_spec('gone') is None\n"
        "a.__path__ = []\n"
        "assert importlib.util.find_spec('a.b') is not None\n"
        "del sys.modules['a.b']\n"
        "assert importlib.util.find_spec('a.b') is None\n",
    )


def test_a_traceback_shows_source_lines(scratch: Path) -> None:
    """The traceback of an uncaught error contains the source lines of archived modules."""
    top = _program_copy(scratch, {"wrong.py": "def f():\n    raise ValueError('oh')  # the line\n"})
    done = _run(top, "import wrong; wrong.f()", check=False)
    assert f"{top}/wrong.py\", line 2, in f\n    raise ValueError('oh')  # the line\n" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("below", ["", "no-module"])
def test_invalid_byte_code_is_replaced(scratch: Path, below: str) -> None:
    """Invalid or missing byte code is compiled anew; a source with a syntax error is copied without byte code."""
    prefix = f"{below}/" if below else ""
    top = _program_copy(
        scratch,
        {f"{prefix}module.py": "value = 'new'\n", f"{prefix}odd.py": "def (:\n"},
        stale=f"{prefix}__pycache__/module.{TAG}.pyc",
    )
    traced = _run(top, "import module; print(module.value)", "-B", "-v", below=below)
    assert traced.stdout.strip() == "new"
    assert f"code object from '{top}/{prefix}__pycache__/module.{TAG}.pyc'" in traced.stderr
    assert "SyntaxError: invalid syntax" in _run(top, "import odd", below=below, check=False).stderr


def test_byte_code_of_another_python_is_not_used_and_none_is_written(scratch: Path) -> None:
    """The source is compiled instead, and nothing is written to the program copy, even without ``-B``."""
    top = _program_copy(scratch, {"module.py": "value = 'source'\n"})
    content = (top / "modules.zip").read_bytes()
    assert content.count(importlib.util.MAGIC_NUMBER) == 1
    (top / "modules.zip").write_bytes(content.replace(importlib.util.MAGIC_NUMBER, b"\x01\x01\r\n"))
    before = sorted(top.rglob("*"))
    done = _run(top, "sys.dont_write_bytecode = False; import module; print(module.value)", "-v")
    assert done.stdout.strip() == "source"
    assert "bad magic number in 'module'" in done.stderr
    assert sorted(top.rglob("*")) == before


def test_modules_of_a_removed_program_copy_can_be_imported(scratch: Path) -> None:
    """The archive stays open, so that a running gateway can import modules later."""
    top = _program_copy(scratch, {"late.py": "value = 7\n"})
    code = f"import shutil; shutil.rmtree({str(top)!r}); import late; print(late.value)"
    assert _run(top, code).stdout.strip() == "7"


def test_the_archive_does_not_use_a_standard_descriptor(scratch: Path) -> None:
    """If the process starts with a closed standard input, descriptor 0 can be opened without replacing the archive."""
    top = _program_copy(scratch, {"late.py": "value = 7\n"})
    code = "import os; os.dup2(os.open('/dev/null', os.O_RDONLY), 0); import late; print(late.value)"
    assert _run(top, code, before="exec <&-; exec").stdout.strip() == "7"
