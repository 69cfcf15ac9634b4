"""The layers of the code: which module may import which.

From the bottom to the top:

    foundation  textgen/*.py and textgen/run/
    packages    data → model → training → evaluation → reporting; each may import those to its left (``ROOMS`` below)
    plan        textgen/plan/ may import every package
    commands    textgen/commands/ too; only textgen/__main__.py imports it
    recipes     import everything; nothing imports them

Inside a package, top-level modules and sub-packages have rules of their own: see ``SUB_PACKAGES`` and ``WITHIN``.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "model", "training", "evaluation", "reporting")
FOUNDATION = ("errors", "config", "config_file", "launch_environment", "files", "checksums", "background", "disk")
FOUNDATION += ("signals", "hub", "printable", "progress", "redaction", "terminal", "run")
OUTSIDE = ("recipes", "tests", "benchmarks", "docs", "launch")

# Sub-package → what it may import of its own package: modules, or whole sub-packages.
SUB_PACKAGES: dict[str, tuple[str, ...]] = {
    "textgen.commands.checkup": (),
    "textgen.data.formats": (),
    "textgen.data.mixture": (
        "textgen.data.document",
        "textgen.data.order",
        "textgen.data.token_stream",
        "textgen.data.tokens",
    ),
    "textgen.data.sources": (
        "textgen.data.formats",
        "textgen.data.config",
        "textgen.data.document",
        "textgen.data.cache",
        "textgen.data.examples",
        "textgen.data.mixture",
    ),
    "textgen.model.adapters": ("textgen.model.config", "textgen.model.contexts"),
    "textgen.data.overlap": (
        "textgen.data.document",
        "textgen.data.cache",
        "textgen.data.config",
        "textgen.data.readers",
        "textgen.data.sources",
        "textgen.data.split",
    ),
    "textgen.data.tokens": (
        "textgen.data.document",
        "textgen.data.split",
        "textgen.data.tokenization",
        "textgen.data.examples",
    ),
    "textgen.data.examples": ("textgen.data.document", "textgen.data.tokenization", "textgen.data.formats"),
    "textgen.model.kernels": ("textgen.model.contexts",),
    "textgen.training.distributed": ("textgen.training.config", "textgen.training.precision"),
    "textgen.evaluation.uncertainty": (),
    "textgen.evaluation.perplexity": (
        "textgen.evaluation.loaded_model",
        "textgen.evaluation.batching",
        "textgen.evaluation.exchange",
        "textgen.evaluation.uncertainty",
    ),
    "textgen.evaluation.decoding": (
        "textgen.evaluation.exchange",
        "textgen.evaluation.config",
        "textgen.evaluation.loaded_model",
        "textgen.evaluation.batching",
    ),
    "textgen.evaluation.quality": (
        "textgen.evaluation.config",
        "textgen.evaluation.loaded_model",
        "textgen.evaluation.batching",
        "textgen.evaluation.uncertainty",
        "textgen.evaluation.decoding",
    ),
    "textgen.evaluation.decoding.search": (
        "textgen.evaluation.decoding.gumbel",
        "textgen.evaluation.decoding.prefix",
        "textgen.evaluation.decoding.strategies",
    ),
    "textgen.evaluation.decoding.prefix": ("textgen.evaluation.decoding.strategies",),
    "textgen.reporting.figures": ("textgen.reporting.formatting", "textgen.reporting.results"),
    "textgen.reporting.tables": (
        "textgen.reporting.columns",
        "textgen.reporting.formatting",
        "textgen.reporting.results",
        "textgen.reporting.wording",
    ),
    "textgen.reporting.tracking": (
        "textgen.reporting.columns",
        "textgen.reporting.config",
        "textgen.reporting.figures",
        "textgen.reporting.formatting",
        "textgen.reporting.results",
    ),
}

# Module that sub-packages of its package import → what it may import of its own package. These modules stay below the
# sub-packages, except that evaluation.config checks the settings of decoding and of perplexity with these.
WITHIN: dict[str, tuple[str, ...]] = {
    "textgen.data.config": (),
    "textgen.data.document": (),
    "textgen.data.cache": (),
    "textgen.data.order": (),
    "textgen.data.token_stream": (),
    "textgen.data.readers": (
        "textgen.data.config",
        "textgen.data.document",
        "textgen.data.sources",
        "textgen.data.split",
    ),
    "textgen.model.config": (),
    "textgen.data.split": ("textgen.data.document",),
    "textgen.data.tokenization": (),
    "textgen.model.contexts": (),
    "textgen.training.config": (),
    "textgen.training.precision": (),
    "textgen.evaluation.config": (
        "textgen.evaluation.decoding.strategies",
        "textgen.evaluation.decoding.strategy_parser",
        "textgen.evaluation.perplexity.convention",
    ),
    "textgen.evaluation.loaded_model": (),
    "textgen.evaluation.batching": (),
    "textgen.evaluation.exchange": (),
    "textgen.evaluation.decoding.gumbel": (),
    "textgen.evaluation.decoding.strategies": (),
    "textgen.reporting.config": (),
    "textgen.reporting.formatting": (),
    "textgen.reporting.columns": ("textgen.reporting.formatting",),
    "textgen.reporting.results": ("textgen.reporting.jsonl",),
    "textgen.reporting.wording": (
        "textgen.reporting.columns",
        "textgen.reporting.formatting",
        "textgen.reporting.results",
    ),
}

Imports = Mapping[str, frozenset[str]]


def module_name(path: Path) -> str:
    """Dotted name of a file below the repository; a package's name for its ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str | bytes) -> Iterator[str]:
    """Every module that a file imports, also inside functions; ``from a import b`` yields ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, which these checks do not follow"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_imports() -> Imports:
    """Module of textgen → the project's modules and packages that it imports."""
    files = {module_name(path): path for path in sorted((ROOT / "textgen").rglob("*.py"))}
    found: dict[str, frozenset[str]] = {}
    for name, path in files.items():
        imported = set(imports_of(path.read_bytes()))
        ours = {module for module in imported if module in files or module.split(".")[0] in OUTSIDE}
        assert all(module.split(".")[0] != "textgen" or known(module, files) for module in imported), (name, imported)
        # `from package import module` does not depend on the package's own __init__.py, beyond running it.
        found[name] = frozenset(m for m in ours if not any(other.startswith(f"{m}.") for other in ours)) - {name}
    return found


def known(module: str, files: Mapping[str, Path]) -> bool:
    """Whether a name is a module, or something in one: a misspelt import cannot escape the rules."""
    return module in files or module.rpartition(".")[0] in files


def inside(module: str, package: str) -> bool:
    """Whether a module is the package or in it."""
    return module == package or module.startswith(f"{package}.")


def room_of(module: str) -> str:
    """First part below textgen: a package, a part of the foundation, or "plan"; empty for textgen itself."""
    return module.split(".")[1] if module.count(".") else ""


def sub_package_of(module: str) -> str | None:
    """The innermost of ``SUB_PACKAGES`` that a module is in."""
    return max((package for package in SUB_PACKAGES if inside(module, package)), key=len, default=None)


def allowed(module: str, imported: str) -> bool:
    """Whether the layers permit one module to import another."""
    if imported.split(".")[0] in OUTSIDE:
        return False
    room, other = room_of(module), room_of(imported)
    if room == "__main__":
        return other == "commands"
    if room == "commands":
        return other != "__main__"
    if room == "plan":
        return other not in ("commands", "__main__")
    if room in FOUNDATION:
        return other in FOUNDATION and (other != "run" or room == "run")
    if other in FOUNDATION:
        return True
    if room not in ROOMS or other not in ROOMS:
        return False
    if room != other:
        return ROOMS.index(other) < ROOMS.index(room)
    return allowed_within(module, imported)


def allowed_within(module: str, imported: str) -> bool:
    """Whether one module of a package may import another of the same package."""
    if module in WITHIN:
        return imported in WITHIN[module]
    package = sub_package_of(module)
    return package is None or any(inside(imported, other) for other in (package, *SUB_PACKAGES[package]))


def violations(imports: Imports) -> list[str]:
    """Every import that the layers do not permit."""
    return [
        f"{module} → {other}" for module in imports for other in sorted(imports[module]) if not allowed(module, other)
    ]


def cycle(graph: Imports) -> list[str]:
    """Nodes of an import cycle in order, the first one repeated at the end; empty if there is none."""
    finished: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in finished:
            for following in sorted(graph.get(node, ())):
                if found := visit(following, [*path, node]):
                    return found
            finished.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def between_packages(imports: Imports) -> Imports:
    """Imports between packages, each of their sub-packages, and the parts of the foundation.

    A package's sub-packages and top-level modules import one another by the rules above, so those are left out.
    """
    packages: dict[str, set[str]] = {}
    for module, others in imports.items():
        for other in others:
            one, two = package_of(module), package_of(other)
            if not inside(one, two) and not inside(two, one):
                packages.setdefault(one, set()).add(two)
    return {package: frozenset(others) for package, others in packages.items()}


def package_of(module: str) -> str:
    """A module's sub-package, or else its package, or its part of the foundation."""
    return sub_package_of(module) or ".".join(module.split(".")[:2])
