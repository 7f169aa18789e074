from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

import mosaic_gateway
from mosaic_gateway_installer.check_dist.__main__ import check_archive, main
from mosaic_gateway_installer.check_dist.archive import Archive, read_archive

Edit = Callable[[dict[str, bytes]], object]


@pytest.fixture
def wheel(distributions: Path) -> Path:
    """The project's wheel."""
    [path] = distributions.glob("*.whl")
    return path


@pytest.fixture
def sdist(distributions: Path) -> Path:
    """The project's sdist."""
    [path] = distributions.glob("*.tar.gz")
    return path


def _info(files: dict[str, bytes], name: str) -> str:
    [path] = [file for file in files if file.endswith(f".dist-info/{name}")]
    return path


def _edited(path: Path, edit: Edit) -> Archive:
    original = read_archive(path)
    files = dict(original.files)
    edit(files)
    return Archive(is_wheel=original.is_wheel, top=original.top, files=files)


def _metadata(wheel: Path) -> Message:
    files = dict(read_archive(wheel).files)
    return BytesParser().parsebytes(files[_info(files, "METADATA")])


def test_metadata_names_version_and_licence(wheel: Path) -> None:
    """The version is the package's, and the licence is given as in PEP 639."""
    metadata = _metadata(wheel)

    assert metadata["Version"] == mosaic_gateway.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not [value for value in metadata.get_all("Classifier", []) if value.startswith("License")]


def test_command_accepts_the_built_files(distributions: Path) -> None:
    """The command exits with 0 and prints one line for each file."""
    files = sorted(distributions.iterdir())
    command = [sys.executable, "-m", "mosaic_gateway_installer.check_dist", *map(str, files)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == [f"{file}: no faults" for file in files]


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda files: files.pop("mosaic_gateway/py.typed"), "mosaic_gateway/py.typed is missing"),
        (lambda files: files.pop("mosaic_gateway_installer/__init__.py"), "__init__.py is missing"),
        (lambda files: files.pop(_info(files, "licenses/LICENSE")), "licenses/LICENSE is missing"),
        (lambda files: files.pop(_info(files, "RECORD")), "RECORD is missing"),
        (lambda files: files.update({"mosaic_gateway/errors.py": b""}), "mosaic_gateway/errors.py differs from RECORD"),
        (lambda files: files.update({"mosaic_gateway/new.py": b""}), "mosaic_gateway/new.py is not in RECORD"),
        (lambda files: files.pop("mosaic_gateway/errors.py"), "errors.py is in RECORD but not in the wheel"),
        (lambda files: files.update({"tests/test_x.py": b""}), "tests does not belong in the wheel"),
        (lambda files: files.update({"mosaic_gateway/sql/third/0000_x.sql": b""}), "0000_x.sql belongs to no bundle"),
        (lambda files: files.update({"mosaic_gateway/sql/gateway/x.sql~": b""}), "x.sql~ is not in the hash lock"),
    ],
)  # fmt: skip
def test_faulty_wheel_is_named(wheel: Path, edit: Edit, fault: str) -> None:
    """Each fault of a wheel is reported."""
    assert any(fault in reported for reported in check_archive(_edited(wheel, edit)))


@pytest.mark.parametrize(
    "name", ["installer/hatch_build.py", "tox.ini", ".ci/run", "tests/packaging/test_mutations.py", "LICENSE"]
)
def test_faulty_sdist_is_named(sdist: Path, name: str) -> None:
    """A file is reported as missing if tests or build need it."""
    assert check_archive(_edited(sdist, lambda files: files.pop(name))) == (f"{name} is missing",)


def test_different_locks_are_named(
    wheel: Path, sdist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A wheel and an sdist with different hash locks are refused."""
    other = tmp_path / wheel.name
    _write_wheel(other, {**read_archive(wheel).files, "mosaic_gateway/sql/storage/meta/hashes.lock.json": b"{}"})

    assert main([str(other), str(sdist)]) == 1
    assert "the archives contain different hash locks" in capsys.readouterr().out


def _write_wheel(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.whl", b"no zip", "cannot be read"),
        ("x.tar.gz", b"no tar", "cannot be read"),
        ("x.zip", b"", "neither a wheel"),
        ("x.whl", None, "No such file"),
    ],
)
def test_unreadable_file_is_an_error(
    name: str, content: bytes | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable file ends the command with exit code 2 and a reason, not with a traceback."""
    if content is not None:
        (tmp_path / name).write_bytes(content)

    assert main([str(tmp_path / name)]) == 2
    assert reason in capsys.readouterr().err


def test_no_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No argument and an empty directory are errors."""
    assert main([]) == 2
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["p-1/a", "p-1/a"], "2 times"), (["p-1/../../a"], "is outside"), (["p-1/a", "q/a"], "one top-level directory")],
)
def test_sdist_with_invalid_names_is_refused(
    names: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A duplicate name, and a name outside of the top-level directory, make an sdist unreadable."""
    path = tmp_path / "p-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())

    assert main([str(path)]) == 2
    assert reason in capsys.readouterr().err
