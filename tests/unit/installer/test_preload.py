"""Before a verb drops root, all modules that its functions import are loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from tests.support.imports import FACADES, INSTALLER, Module

from mosaic_gateway_installer.cli import VERBS

LOADED = """
import json, sys
from mosaic_gateway.cli.root import make_root
from mosaic_gateway_installer import cli
from mosaic_gateway_installer.root import preload
make_root(cli.VERBS).get_command(None, sys.argv[1])
preload.load(sys.argv[1])
own = {"mosaic_gateway", "mosaic_gateway_installer"}
files = {n: m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] in own and getattr(m, "__file__", None)}
print(json.dumps({"modules": list(sys.modules), "files": files}))
"""
#: Package with lazy names → each name → the module that defines it.
ORIGINS = {package: Module(package, Path(str(import_module(package).__file__)), {}).origins for package in FACADES}
#: Functions that a worker does not call: module, function.
NOT_IN_WORKERS = {
    ("mosaic_gateway.cli.root", "shell_complete"),
    ("mosaic_gateway.cli.root", "completion"),
    ("mosaic_gateway.migrations.gate", "main"),
    (f"{INSTALLER}.cli", "main"),
    (f"{INSTALLER}.cli", "run"),
    ("mosaic_gateway.cli.preload", "load"),
    (f"{INSTALLER}.root.preload", "_read_package"),
}
#: Functions of one verb in a module that several verbs load.
OF_VERBS = {
    ("mosaic_gateway.gateway.run.server", "serve_http"): "serve",
    (f"{INSTALLER}.install.command", "install"): "install",
    (f"{INSTALLER}.uninstall.command", "uninstall"): "uninstall",
    (f"{INSTALLER}.checks.command", "doctor"): "doctor",
}


# `completion` uses no home, so it does not run in a worker.
@pytest.mark.parametrize("verb", [name for name in VERBS if name != "completion"])
def test_imports_in_functions_are_loaded_before_root_is_dropped(verb: str) -> None:
    """Every module imported within a function of a loaded module is loaded, too."""
    done = subprocess.run([sys.executable, "-c", LOADED, verb], capture_output=True, text=True, check=True, timeout=120)
    loaded = json.loads(done.stdout)
    missing = {
        (name, module, function)
        for module, file in loaded["files"].items()
        for function, name in imports_in_functions(Path(file))
        if name not in loaded["modules"]
        and (module, function) not in NOT_IN_WORKERS
        and OF_VERBS.get((module, function), verb) == verb
    }
    assert missing == set()


def imports_in_functions(file: Path) -> Iterator[tuple[str, str]]:
    """Yield function and module for each import within a function of *file*.

    A name that a function uses of a package with lazy names is such an import, of the module that defines the name.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    packages = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in ORIGINS
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from ((function.name, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    origins = ORIGINS.get(node.module, {})
                    yield from ((function.name, origins.get(alias.name, node.module)) for alias in node.names)
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
                    yield function.name, ORIGINS[packages[node.value.id]][node.attr]
