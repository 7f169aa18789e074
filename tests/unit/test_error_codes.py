"""Every error class has a code of its own, for scripts."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict

import mosaic_gateway
import mosaic_gateway_installer
from mosaic_gateway.errors import MosaicError

#: They run when they are imported.
SCRIPTS = {"mosaic_gateway.__main__", "mosaic_gateway_installer.program_copy.entry"}


def _classes(base: type[MosaicError]) -> set[type[MosaicError]]:
    return {base}.union(*(_classes(one) for one in base.__subclasses__()))


def test_one_code_one_class() -> None:
    """Two classes with one code would let a script take one failure for another."""
    for package in (mosaic_gateway, mosaic_gateway_installer):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in SCRIPTS:
                importlib.import_module(module.name)
    own = defaultdict(set)
    for one in _classes(MosaicError):
        if "code" in vars(one) and one.__module__.startswith("mosaic_gateway"):
            own[one.code].add(f"{one.__module__}.{one.__name__}")
    assert len(own) > 100
    assert {code: classes for code, classes in own.items() if len(classes) > 1} == {}
