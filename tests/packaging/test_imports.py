"""What the packages of the program import from each other, beside the contracts of import-linter (pyproject.toml)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest
from tests.support.imports import FACADES, INSTALLER, Module, import_cycles, is_in, outside_uses, read_modules

MOST_NAMES = 30


PYTHON_API = "docs/reference/python-api.md"


@pytest.fixture(scope="module")
def modules(checkout: Path) -> Mapping[str, Module]:
    """The modules of the tree."""
    return read_modules(checkout)


@pytest.mark.parametrize("package", FACADES)
def test_a_package_offers_what_its_modules_define(package: str, modules: Mapping[str, Module]) -> None:
    """Each name of ``__all__`` is the object that its module defines, for type checkers and when the program runs."""
    facade, imported = modules[package], import_module(package)
    assert sorted(facade.origins) == sorted(facade.exports)
    for name, origin in facade.origins.items():
        module = import_module(origin)
        assert getattr(imported, name) is (module if name in facade.whole else getattr(module, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(imported, "no_such_name")  # noqa: B009 - for mypy, too, the attribute does not exist


@pytest.mark.parametrize("package", FACADES)
def test_no_name_is_that_of_a_submodule(package: str, modules: Mapping[str, Module]) -> None:
    """The import of a submodule binds its name in the package, so no other object has that name."""
    facade = modules[package]
    assert [name for name in set(facade.exports) - facade.whole if f"{package}.{name}" in modules] == []


@pytest.mark.parametrize("package", FACADES)
def test_a_package_offers_what_others_use(package: str, modules: Mapping[str, Module], checkout: Path) -> None:
    """``__all__`` has the names that modules outside of the package import, and those that are documented."""
    offered, whole = set(modules[package].exports), modules[package].whole
    documented = set(re.findall(r"`(\w+)", (checkout / PYTHON_API).read_text(encoding="utf-8")))
    used = set()
    for _, used_package, submodule, name in outside_uses(modules):
        if used_package == package:
            used.add(submodule if submodule in whole else name)
    used.discard("")
    assert used - offered == set(), "used outside of the package, but not in __all__"
    assert offered - used - documented == set(), "in __all__, but not used outside of the package"


def test_the_installer_uses_only_what_packages_offer(modules: Mapping[str, Module]) -> None:
    """The installer imports from the packages of the runtime, not from their modules."""
    inner = {
        f"{user}: {package}.{submodule}.{name}".rstrip(".")
        for user, package, submodule, name in outside_uses(modules)
        if is_in(user, INSTALLER) and submodule and submodule not in modules[package].whole
    }
    assert inner == set()


def test_no_import_cycle(modules: Mapping[str, Module]) -> None:
    """No module imports itself through others, within functions and for types too."""
    assert import_cycles(modules) == []


def test_a_module_imports_few_names(modules: Mapping[str, Module]) -> None:
    """A module that needs more is about several things, or cuts one thing into too many names."""
    most = {name: len(module.imported_names) for name, module in modules.items() if name not in FACADES}
    assert {name: number for name, number in most.items() if number > MOST_NAMES} == {}
