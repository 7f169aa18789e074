"""Shell completion, tested with real shells."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 60.0  # seconds
#: Shell commands that complete a line as Tab does, and print the completions.
ASK = {
    "bash": "source ./script; COMP_WORDS=({words}); COMP_CWORD={last}; _mosaic_gateway_completion mosaic-gateway;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
    # The zsh functions that fill the completion menu are replaced by functions that print.
    "zsh": "autoload -Uz compinit; compinit -u -D; source ./script; words=({words}); CURRENT=$(( {last} + 1 ));"
    " _describe() {{ print -rl -- ${{(P)3}}; }}; compadd() {{ print -rl -- ${{(P)5}}; }}; _mosaic_gateway_completion",
    "fish": "source ./script; complete -C '{line}' | string split -f1 \\t",
}


@pytest.fixture
def command(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``mosaic-gateway`` is the command line with the installer's verbs."""
    script = tmp_path / "bin" / "mosaic-gateway"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m mosaic_gateway_installer.cli "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def _complete(shell: str, words: list[str], environ: dict[str, str], where: Path) -> set[str]:
    script = subprocess.run(
        ["mosaic-gateway", "completion", shell], env=environ, capture_output=True, text=True, check=True, timeout=LIMIT
    ).stdout
    (where / "script").write_text(script)
    quoted = " ".join(f'"{word}"' for word in words)
    ask = ASK[shell].format(words=quoted, last=len(words) - 1, line=" ".join(words))
    done = subprocess.run(
        [shell, "-c", ask], env=environ, capture_output=True, text=True, check=True, timeout=LIMIT, cwd=where
    )
    assert not done.stderr, done.stderr
    return {line.partition(":")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", list(ASK))
def test_a_real_shell_completes_verbs_options_and_values(shell: str, command: dict[str, str], tmp_path: Path) -> None:
    """Prefixes of verbs, subcommands and options are completed."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for words, expected in (
        (["mosaic-gateway", "ins"], {"install"}),
        (["mosaic-gateway", "st"], {"start", "stop", "status", "storage"}),
        (["mosaic-gateway", "storage", "mi"], {"migrate"}),
        (["mosaic-gateway", "doctor", "--f"], {"--fix"}),
    ):
        assert expected <= _complete(shell, words, command, tmp_path), words


def test_completion_imports_no_verbs(command: dict[str, str]) -> None:
    """Completing verbs does not import them, because the shell waits for it at each Tab."""
    asked = {"COMP_WORDS": "mosaic-gateway ", "COMP_CWORD": "1", "_MOSAIC_GATEWAY_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", "-m", "mosaic_gateway_installer.cli"],
        env={**command, **asked}, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert "plain,install" in done.stdout.splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mosaic_gateway.cli.root" in loaded
    assert not {"psycopg", "mosaic_gateway.cli.gateway", "mosaic_gateway_installer.install.command"} & loaded


def test_names_of_backups(command: dict[str, str], tmp_path: Path) -> None:
    """``backup restore`` and ``backup verify`` complete the names of the home's backups, newest first."""
    home = tmp_path / "home"
    for name in ("20260101T000000Z-0.1.0", "20260201T000000Z-0.1.0", ".tmp-x"):
        (home / "backups" / name).mkdir(parents=True)
    for verb in ("restore", "verify"):
        words = ["mosaic-gateway", "backup", verb, "--home", str(home), "2026"]
        assert _complete("bash", words, command, tmp_path) == {"20260101T000000Z-0.1.0", "20260201T000000Z-0.1.0"}
