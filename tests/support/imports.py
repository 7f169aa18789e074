"""What the modules of ``src`` and ``installer`` import from each other, read from their sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = [
    "FACADES", "INSTALLER", "RUNTIME", "Module", "facade_of", "import_cycles", "is_in", "outside_uses", "read_modules",
]  # fmt: skip

RUNTIME = "mosaic_gateway"
INSTALLER = "mosaic_gateway_installer"
#: The packages of the runtime with a façade.
FACADES = tuple(
    f"{RUNTIME}.{name}"
    for name in (
        "fs", "process", "installation", "migrations", "migrations.lint", "engines", "engines.postgres",
        "engines.pglite", "auth", "storage", "gateway", "gateway.control", "gateway.run", "cli",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    """A module by its full *name*; *modules* has all modules by name."""

    name: str
    path: Path
    modules: Mapping[str, Module]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def exports(self) -> tuple[str, ...]:
        """The value of ``__all__``."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return tuple(ast.literal_eval(node.value))
        return ()

    @cached_property
    def imports(self) -> tuple[tuple[str, str, str], ...]:
        """Each import, in functions and for types too: module, name ("" for the module itself), and name bound."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, "", alias.asname or alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module not in {None, "__future__"}:
                found += [self._import(str(node.module), alias) for alias in node.names]
        return tuple(found)

    def _import(self, module: str, alias: ast.alias) -> tuple[str, str, str]:
        bound = alias.asname or alias.name
        full = f"{module}.{alias.name}"
        return (full, "", bound) if full in self.modules else (module, alias.name, bound)

    @cached_property
    def _for_type_checkers(self) -> tuple[tuple[str, str], ...]:
        """Module and name of the imports that only type checkers see."""
        return tuple(
            (str(node.module), alias.name)
            for block in self.tree.body
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        )

    @cached_property
    def whole(self) -> frozenset[str]:
        """Of a façade: the submodules that it offers themselves."""
        return frozenset(name for module, name in self._for_type_checkers if module == self.name)

    @cached_property
    def origins(self) -> Mapping[str, str]:
        """Of a façade: the names that it offers, with the module that each comes from, or that it is."""
        return {n: f"{module}.{n}" if n in self.whole else module for module, n in self._for_type_checkers}

    @cached_property
    def imported_names(self) -> frozenset[tuple[str, str]]:
        """The different names that the module imports."""
        return frozenset((module, name) for module, name, _ in self.imports)

    @cached_property
    def uses(self) -> frozenset[tuple[str, str]]:
        """The names that it uses of other modules: imported, or as attributes of an imported module."""
        imported = {bound: module for module, name, bound in self.imports if not name}
        attributes = {
            (imported[node.value.id], node.attr)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
        }
        return frozenset((module, name) for module, name, _ in self.imports if name) | attributes


def read_modules(tree: Path) -> dict[str, Module]:
    """Return the modules of the source tree *tree* by name."""
    modules: dict[str, Module] = {}
    for folder, package in (("src", RUNTIME), ("installer", INSTALLER)):
        for path in sorted((tree / folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(tree / folder).with_suffix("").parts).removesuffix(".__init__")
            modules[name] = Module(name, path, modules)
    return modules


def facade_of(module: str) -> str | None:
    """Return the package with a façade that contains *module*: the innermost one."""
    found = [package for package in FACADES if is_in(module, package)]
    return max(found, key=len, default=None)


def outside_uses(modules: Mapping[str, Module]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what a module uses of a package that it is not part of: user, package, submodule and name.

    *submodule* is "" if the user does not name one, *name* is "" if it imports the submodule as a whole.
    """
    for user in modules.values():
        whole = {(module, "") for module, name in user.imported_names if not name}
        for module, name in user.uses | whole:
            package = facade_of(module)
            if package is None or is_in(user.name, package):
                continue
            submodule = module.removeprefix(package).removeprefix(".")
            if submodule or name:
                yield user.name, package, submodule, name


def is_in(module: str, package: str) -> bool:
    """Return whether *module* is *package* or in it."""
    return module == package or module.startswith(f"{package}.")


def import_cycles(modules: Mapping[str, Module]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    edges = {
        name: sorted({target for target, _ in module.imported_names if target in modules and target != name})
        for name, module in modules.items()
    }
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for target in edges[name]:
            if target not in number:
                visit(target)
            if target in stack:
                lowest[name] = min(lowest[name], lowest[target])
        if lowest[name] == number[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                cycles.append(sorted(group))

    for name in edges:
        if name not in number:
            visit(name)
    return cycles
