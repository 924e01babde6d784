"""Rules for the shape of the code: sizes, no circular imports, one class per name, plain words (docs/architecture.md).

Only the source text is read.
"""

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("imagegenx_site", "generation", "workers", "postprocessing", "storage", "fixtures", "deploy")
NOT_PRODUCT = {"tests", "migrations"}
CLIENT = ROOT / "deploy" / "client"  # a package of its own: its Task is what callers see of ours

MOST_MODULES = 25
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60
USUAL_FUNCTION_LINES = 30
MOST_PARAMETERS = 7  # of a constructor, without self

SHARED_NAMES = {"Command"}  # Django finds commands by this name

MODULE_WORDS = {"late", "once", "seen", "opened", "hosted", "told"}
# Words that are no terms of the field -> what to write instead.
DIALECT = {
    "told": "lines, columns: what the value is",
    "tell": "write, emit, notify",
    "hope": "assume",
    "hopeful": "assumed",
    "heard": "received",
    "mourn": "report",
    "bury": "requeue_dead",
    "buried": "dead",
    "desk": "ticket holder",
    "asker": "request context",
    "happening": "event",
    "wanted_of": "parse",
    "crowd": "surge",
    "patrol": "sweep",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def product_files() -> tuple[Path, ...]:
    """Every module of the product; neither tests nor migrations."""
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return tuple(path for path in files if not is_test(path.relative_to(ROOT)))


def is_test(path: Path) -> bool:
    return bool(NOT_PRODUCT & set(path.parts)) or path.name in ("conftest.py", "pytest_plugin.py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Every node of these kinds in the product, with its place as `path:line`."""
    for path in product_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, kinds):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def functions() -> list[tuple[str, Function]]:
    return [(place, node) for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef) if isinstance(node, Function)]


def assert_none(found: Iterable[str]) -> None:
    """Fail with every finding on a line of its own."""
    lines = sorted(found)
    assert not lines, "\n".join(["", *lines])


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_folder_is_a_hall() -> None:
    modules = Counter(path.parent.relative_to(ROOT) for path in product_files() if path.name != "__init__.py")
    assert_none(f"{folder}: {count} modules" for folder, count in modules.items() if count > MOST_MODULES)


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in product_files()}
    assert_none(f"{path}: {count} lines" for path, count in lengths.items() if count > MOST_FILE_LINES)


def test_functions_are_short() -> None:
    lengths = {f"{place} {node.name}": length(node) for place, node in functions()}
    assert_none(f"{place}: {lines} lines" for place, lines in lengths.items() if lines > MOST_FUNCTION_LINES)
    usual = sum(lines <= USUAL_FUNCTION_LINES for lines in lengths.values())
    assert usual >= 0.9 * len(lengths)


def test_constructors_take_few_parameters() -> None:
    def parameters(node: Function) -> int:
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return len(every) - 1 + sum(rest is not None for rest in (node.args.vararg, node.args.kwarg))

    constructors = {place: parameters(node) for place, node in functions() if node.name == "__init__"}
    assert_none(f"{place}: {count} parameters" for place, count in constructors.items() if count > MOST_PARAMETERS)


@cache
def imports() -> dict[str, set[str]]:
    """Which product module imports which, at any depth of a file and also for types alone."""
    known = {module_name(path) for path in product_files()}
    found: dict[str, set[str]] = {}
    for path in product_files():
        here = module_name(path)
        found[here] = {name for name in _imported(tree(path), known) if name != here}
    return found


def _imported(module: ast.Module, known: set[str]) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known or node.module in known:
                    yield name if name in known else node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972), each sorted."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            start = stack.index(name)
            component = sorted(stack[start:])
            del stack[start:]
            if len(component) > 1:
                found.append(component)

    for name in graph:
        if name not in order:
            visit(name)
    return sorted(found)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == []


def test_product_files_import_in_no_circle() -> None:
    assert_none(" <-> ".join(circle) for circle in circles(imports()))


def test_a_class_name_is_used_for_one_class() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in product_files():
        for node in tree(path).body:  # a class within another is known by both names
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                name = f"client {node.name}" if CLIENT in path.parents else node.name
                places[name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert_none(
        f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1 and name not in SHARED_NAMES
    )


def test_modules_are_named_by_nouns() -> None:
    assert_none(str(path.relative_to(ROOT)) for path in product_files() if path.stem in MODULE_WORDS)


def words(name: str) -> list[str]:
    """`TicketDesk` and `ticket_desk` as `ticket`, `desk`."""
    return [word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]*[a-z0-9]+|[A-Z]+", part)]


def defined_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr]
    return []


def is_dialect(name: str) -> bool:
    lower = name.lower().strip("_")
    return lower in DIALECT or bool(DIALECT.keys() & set(words(name)))


@pytest.mark.parametrize("name", ["_told", "TicketDesk", "hope", "CrowdControl", "wanted_of", "gpu_heard"])
def test_dialect_is_recognised(name: str) -> None:
    assert is_dialect(name)


def test_names_are_words_of_the_field() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.arg, ast.Name, ast.Attribute)
    assert_none(f"{place} {name}" for place, node in nodes(*kinds) for name in defined_names(node) if is_dialect(name))


def test_every_module_has_a_place_in_the_order_of_imports() -> None:
    """A module that no layer of pyproject.toml names could import what lies above it."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    places = {name.strip() for layer in layers for name in re.split("[:|]", layer)}
    packages = {place.rsplit(".", depth)[0] for place in places for depth in range(place.count(".") + 1)}
    modules = {module_name(path) for path in product_files()}
    assert_none(name for name in modules if not any(f"{name}.".startswith(f"{place}.") for place in places)
                and name not in packages)  # fmt: skip
