"""The link to the command in the user's ``~/.local/bin``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.ports import free_port

from mosaic_gateway.config import Config
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.installation import Home, Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.program_copy.command_link import LinkCommandStep, UnlinkCommandStep, typed_command
from mosaic_gateway_installer.step import Target

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="root's link is created by root's process")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A default home of a user, with a receipt and a command."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    home = Home(tmp_path / ".local/share/mosaic-gateway")
    make_directory(home.path)
    home.launcher.parent.mkdir()
    home.launcher.write_text("#!/bin/sh\n")
    home.launcher.chmod(0o755)
    receipt = Receipt(
        instance_id="0" * 16, state=ReceiptState.INSTALLED, version="0.1.0", engine="postgres",
        created_at="2026-01-01T00:00:00+00:00", home_created=True,
    )  # fmt: skip
    write_receipt(home, receipt)
    return Target(config=Config(home=home))


def _link(target: Target) -> Path:
    return target.home.path.parents[2] / ".local/bin/mosaic-gateway"


def test_it_is_created_recorded_and_removed(target: Target) -> None:
    """The link leads to the home's command, the receipt records it, and its removal leaves the directory."""
    step, link = LinkCommandStep(target), _link(target)
    assert not step.done()
    step.apply()
    assert link.readlink() == target.home.launcher
    receipt = read_receipt(target.home)
    assert receipt is not None
    assert receipt.command == str(link)
    assert step.done()
    removal = UnlinkCommandStep(target)
    assert not removal.done()
    removal.apply()
    assert not link.is_symlink()
    assert removal.done()
    assert link.parent.is_dir()


def test_undo_removes_it(target: Target) -> None:
    """A failed installation leaves no link."""
    step = LinkCommandStep(target)
    step.apply()
    step.undo()
    assert not _link(target).is_symlink()


@pytest.mark.parametrize("dangling", [False, True])
def test_a_foreign_file_is_neither_replaced_nor_removed(target: Target, *, dangling: bool) -> None:
    """What has the name already stays, also a link that leads nowhere, and also if the receipt names it."""
    link = _link(target)
    link.parent.mkdir(parents=True)
    if dangling:
        link.symlink_to("/nonexistent")
    else:
        link.write_text("foreign")
    assert LinkCommandStep(target).done()
    LinkCommandStep(target).undo()
    receipt = read_receipt(target.home)
    assert receipt is not None
    write_receipt(target.home, replace(receipt, command=str(link)))
    removal = UnlinkCommandStep(target)
    assert removal.done()
    removal.apply()
    assert link.is_symlink() if dangling else link.read_text() == "foreign"


def test_another_home_gets_no_link(target: Target, tmp_path: Path) -> None:
    """Only the default home of the user is linked: the name can lead to one home only."""
    assert LinkCommandStep(Target(config=Config(home=Home(tmp_path / "other")))).done()
    assert not LinkCommandStep(target).done()


def test_a_directory_that_cannot_be_written_is_only_reported(target: Target) -> None:
    """The installation succeeds without the link, and says why there is none."""
    parent = _link(target).parent
    parent.parent.mkdir(parents=True, exist_ok=True)
    parent.write_text("a file")
    step = LinkCommandStep(target)
    step.apply()
    assert len(step.notes) == 1
    assert str(parent) in str(step.notes[0])


def test_what_a_person_types(target: Target) -> None:
    """The name where PATH leads to this home, the link where it does not, the home's command without a link."""
    link, command = _link(target), target.home.launcher
    assert typed_command(target.home, {"PATH": "/usr/bin"}) == str(command)
    LinkCommandStep(target).apply()
    assert typed_command(target.home, {"PATH": "/usr/bin"}) == str(link)
    assert typed_command(target.home, {"PATH": f"/usr/bin:{link.parent}"}) == "mosaic-gateway"
    other = command.parent.parent / "mosaic-gateway"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert typed_command(target.home, {"PATH": f"{other.parent}:{link.parent}"}) == str(link)


@pytest.mark.slow
def test_the_whole_life_of_a_default_home(tmp_path: Path) -> None:
    """``install`` links the command, which names itself in hints; ``uninstall`` removes it."""
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    link = tmp_path / ".local/bin/mosaic-gateway"

    def run(*words: str | Path) -> dict[str, object]:
        done = subprocess.run(words, env=environ, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done
        result: dict[str, object] = json.loads(done.stdout)["result"] if "--json" in words else {"out": done.stdout}
        return result

    package: Sequence[str] = (sys.executable, "-P", "-m", "mosaic_gateway_installer.cli")
    installed = run(*package, "install", "--no-service", "--port", str(free_port()), "--json")
    assert installed["command"] == str(link)
    try:
        assert run(link, "bootstrap", "status")["out"] == f"No admin yet: {link} bootstrap link\n"
        assert f"Retained in {tmp_path}" in str(run(link, "uninstall")["out"])
        assert not link.is_symlink()
    finally:
        subprocess.run((*package, "stop"), env=environ, cwd="/", check=False, capture_output=True, timeout=60)
