"""A verb that cannot read the program any more has loaded all that its functions import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosaic_gateway_installer.cli import VERBS

LOADED = """
import json, sys
from mosaic_gateway.cli.root import make_root
from mosaic_gateway_installer import cli
from mosaic_gateway_installer.root import preload
make_root(cli.VERBS).get_command(None, sys.argv[1])
preload.load(sys.argv[1])
ours = {"mosaic_gateway", "mosaic_gateway_installer"}
files = {n: m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] in ours and getattr(m, "__file__", None)}
print(json.dumps({"modules": list(sys.modules), "files": files}))
"""
INSTALLER = "mosaic_gateway_installer"
#: Functions that no worker calls: module, function.
ELSEWHERE = {
    ("mosaic_gateway.cli.lazy", "shell_complete"),
    ("mosaic_gateway.cli.root", "main"),
    ("mosaic_gateway.migrations.gate", "main"),
    (f"{INSTALLER}.cli", "main"),
    ("mosaic_gateway.cli.preload", "load"),
    (f"{INSTALLER}.root.preload", "_read_package"),
}
#: Functions of one verb in a module of several.
OF_VERBS = {
    ("mosaic_gateway.gateway.run.server", "serve_http"): "serve",
    (f"{INSTALLER}.install.command", "install"): "install",
    (f"{INSTALLER}.uninstall.command", "uninstall"): "uninstall",
    (f"{INSTALLER}.checks.command", "doctor"): "doctor",
}


# `completion` works in no home, so no worker runs it.
@pytest.mark.parametrize("verb", [name for name in VERBS if name != "completion"])
def test_what_functions_import_is_loaded_before_root_is_given_up(verb: str) -> None:
    """Every import within a function of what a verb has loaded names a module that is loaded, too."""
    done = subprocess.run([sys.executable, "-c", LOADED, verb], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    missing = {
        (name, module, function)
        for module, file in found["files"].items()
        for function, name in imports_in_functions(Path(file))
        if name not in found["modules"]
        and (module, function) not in ELSEWHERE
        and OF_VERBS.get((module, function), verb) == verb
    }
    assert missing == set()


def imports_in_functions(file: Path) -> Iterator[tuple[str, str]]:
    """Yield function and module for each import statement within a function of *file*."""
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from ((function.name, one.name) for one in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield function.name, node.module
