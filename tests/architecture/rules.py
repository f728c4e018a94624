"""The rules of the house, each a function from source text to the breaches that it finds."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "egoflow"

LAYERS: tuple[frozenset[str], ...] = tuple(frozenset(names.split()) for names in (
    "errors", "console", "geometry", "types", "config", "losses networks data worlds doctor", "methods", "registry",
    "evaluation", "inference", "training", "report", "fit", "commands", "cli", "__main__"))
"""A file imports from earlier layers or from its own folder; parts of one layer do not know each other."""

BANNED_NAMES = frozenset({"pose", "T", "Tcw", "Twc", "c2w", "w2c", "cam2world", "extrinsics"})
METHOD_SUPPORT = frozenset({"__init__", "base", "beneath", "moving", "solved", "start", "trio", "views"})
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_EXAMPLE_LINES = 300, 60, 80


def source_files() -> dict[str, str]:
    """Return the source of every module of the package by its dotted name."""
    files = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return files


def layer_of(module: str) -> int:
    """Return the rank of a module's layer; raises KeyError for a part of the package that has none."""
    part = module.split(".")[1]
    for rank, names in enumerate(LAYERS):
        if part in names:
            return rank
    raise KeyError(f"{module}: {part} is in no layer; name it in LAYERS and docs/architecture.md")


def imported_modules(source: str, *, modules: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name) of every import of the package in ``source``, wherever it stands.

    ``name`` is what is taken from a module; a name that is itself a module is yielded as that module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "egoflow")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "egoflow":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in modules else (str(node.module), alias.name)


def layer_breaches(module: str, source: str, *, modules: frozenset[str]) -> list[str]:
    """Find imports from a later layer, from a sibling part of the own layer, and relative imports."""
    found = [f"{module}: relative import" for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.ImportFrom) and node.level]
    rank, part = layer_of(module), module.split(".")[1]
    for target, _ in imported_modules(source, modules=modules):
        if target == "egoflow":
            continue
        own_folder = target.split(".")[1] == part
        if not own_folder and layer_of(target) >= rank:
            found.append(f"{module} imports {target}, which is no earlier layer")
    return found


def init_breaches(module: str, source: str, *, modules: frozenset[str], packages: frozenset[str]) -> list[str]:
    """Find names that are taken from a package's ``__init__``, which holds a docstring alone."""
    return [f"{module} takes {name} from the package {target}"
            for target, name in imported_modules(source, modules=modules) if target in packages and name is not None]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return one cycle of a graph of imports, or nothing."""
    state: dict[str, int] = {}

    def visit(node: str, path: list[str]) -> list[str]:
        state[node] = 1
        for target in sorted(graph.get(node, ())):
            if state.get(target) == 1:
                return [*path[path.index(target):], target]
            if target not in state and (found := visit(target, [*path, target])):
                return found
        state[node] = 2
        return []

    for start in sorted(graph):
        if start not in state and (found := visit(start, [start])):
            return found
    return []


def mentions(source: str, *, name: str) -> list[int]:
    """Return the lines on which ``name`` is used as a variable, attribute or imported name."""
    return [node.lineno for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name) and node.id == name or isinstance(node, ast.Attribute) and node.attr == name
            or isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names)]


def banned_names(source: str) -> list[str]:
    """Return variables and arguments whose names invite an inverted transform."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = (node.arg if isinstance(node, ast.arg) else
                node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None)
        if name in BANNED_NAMES:
            found.append(f"line {node.lineno}: {name}")  # type: ignore[attr-defined]
    return found


def long_functions(source: str, *, limit: int = MAX_FUNCTION_LINES) -> list[str]:
    """Return the functions of more than ``limit`` lines, docstring and decorators included."""
    return [f"{node.name} has {node.end_lineno - node.lineno + 1} lines" for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno + 1 > limit]


def method_file_faults(source: str) -> list[str]:
    """Return what a method file lacks: a docstring, a frozen Config, one Method class that is no parent, a preset."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [node for node in classes if "Method" in _base_names(node)]
    parents = {name for node in classes for name in _base_names(node)}
    configs = [node for node in classes if node.name == "Config"]
    frozen = any("frozen=True" in ast.unparse(d) for c in configs for d in c.decorator_list)
    presets = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
               and isinstance(node.returns, ast.Name) and node.returns.id == "Run"]
    faults = {
        "no docstring that names the paper": not ast.get_docstring(tree),
        "no frozen dataclass Config": not frozen,
        f"{len(methods)} Method classes instead of one": len(methods) != 1,
        "its Method class is inherited from": any(node.name in parents for node in methods),
        "no preset (a public function that returns Run)": not presets,
        "a preset without a docstring": any(not ast.get_docstring(node) for node in presets),
    }
    return [fault for fault, present in faults.items() if present]


def _base_names(node: ast.ClassDef) -> set[str]:
    return {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}


def machine_paths(text: str) -> list[str]:
    """Return the lines that name a folder of somebody's machine."""
    # Put together here, so that this file does not name them itself.
    marks = ["/" + name + "/" for name in ("work", "root", "farm")] + ["/" + "tmp/w/"]
    return [line.strip() for line in text.splitlines() if any(mark in line for mark in marks)]
