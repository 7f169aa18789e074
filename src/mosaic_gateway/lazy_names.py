"""Names that a package offers and imports at their first use (PEP 562): its façade costs no start-up time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["lazy_names", "load"]


def lazy_names(package: str, *submodules: str, **names: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of *package*, which imports each of its names at the first use.

    *submodules* are offered themselves; *names* are, by submodule, the names that are imported from it, separated by
    spaces. No name may be that of a submodule that is not offered: importing the submodule would replace it.
    """
    origins = {name: submodule for submodule, listed in names.items() for name in listed.split()}

    def import_name(name: str) -> Any:
        if name in submodules:
            return _import(f"{package}.{name}")
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(_import(f"{package}.{origins[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name


def load(name: str) -> ModuleType:
    """Import the module *name*, with all that it offers if it is a package with lazy names, and return it."""
    module = _import(name)
    for offered in getattr(module, "__all__", ()):
        getattr(module, offered)
    return module


def _import(name: str) -> ModuleType:
    """Import and return the module *name*, as the import statement does.

    ``importlib.import_module`` is shown neither by ``-X importtime`` nor to audit hooks.
    """
    return __import__(name, fromlist=["__name__"])
