"""README.md, its neighbours and docs/*.md name only what exists: files, functions, classes, settings, commands, Celery
functions and metrics. docs/benchmarks and docs/decisions may name what was.
"""

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("imagegenx_site", "generation", "workers", "storage", "postprocessing", "fixtures", "deploy")
TOP = f"(?:{'|'.join(PACKAGES)}|docs)"
SOURCES = {".py", ".lua", ".md", ".html", ".js", ".toml", ".ini", ".conf", ".yaml"}
READ_AS = {".py", ".lua", ".html", ".js", ".yaml", ".sh", ".json", ".example", ".conf", ""}
SETTING = r"[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)*"
OTHERS = {"BASE", "KEY"}  # variables of the reader's shell in the examples
WALK = "The way of a task, in ten lines"
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """Offset and content of each `span` outside fenced blocks."""
    prose = re.sub(r"^```.*?^```", lambda block: " " * len(block[0]), text_of(page), flags=re.S | re.M)
    for found in re.finditer(r"`([^`]+)`", prose):
        yield found.start(1), " ".join(found[1].split())


def check(page: Path, faults: list[tuple[int, str]]) -> None:
    """Fail with file, line and reason of every fault, each given by its offset in the page."""
    lines = [f"{page.relative_to(ROOT)}:{text_of(page).count(chr(10), 0, at) + 1}: {what}" for at, what in faults]
    assert not lines, "\n" + "\n".join(lines)


@cache
def modules() -> dict[str, ast.Module]:
    """Every Python file of ours, by its path from the root."""
    found = [ROOT / "manage.py", *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]
    return {str(file.relative_to(ROOT)): ast.parse(text_of(file)) for file in found}


@cache
def names_in(path: str) -> frozenset[str]:
    """What a module defines: `function`, `Class`, `Class.method`, `Class.field`, and each method and field alone."""
    found: set[str] = set()
    for node in ast.walk(modules()[path]):
        if isinstance(node, ast.ClassDef | ast.Module):
            inner = {name for statement in node.body for name in defined_by(statement)}
            found |= inner | {f"{getattr(node, 'name', '')}.{name}" for name in inner}
    return frozenset(found)


def defined_by(statement: ast.AST) -> list[str]:
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return [str(statement.name)] if hasattr(statement, "name") else []


def dotted() -> dict[str, str]:
    """The path of each module and package, by its name in Python."""
    return {re.sub(r"/__init__$", "", path.removesuffix(".py")).replace("/", "."): path for path in modules()}


@cache
def all_names() -> frozenset[str]:
    return frozenset(name for path in modules() for name in names_in(path))


@cache
def source_words() -> frozenset[str]:
    """Every word of the sources, tests included, this file and the documents left out."""
    found = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix in READ_AS)
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *(file for file in found if file != Path(__file__))]
    texts = (file.read_text("utf-8", "ignore") for file in files if file.is_file())
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def constants(paths: list[str]) -> set[str]:
    nodes = (node for path in paths for node in ast.walk(modules()[path]))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def settings_read() -> frozenset[str]:
    """The environment variables that the settings read: `env.str("NAME", ...)`, `number("NAME", ...)` and the like."""
    calls = (node for node in ast.walk(modules()["imagegenx_site/settings.py"]) if isinstance(node, ast.Call))
    reading = re.compile(rf"env\.|(?:{'|'.join(names_in('imagegenx_site/environment.py'))})$")
    readers = (call for call in calls if call.args and reading.match(ast.unparse(call.func)))
    first = [call.args[0].value for call in readers if isinstance(call.args[0], ast.Constant)]
    return frozenset(name for name in first if isinstance(name, str) and re.fullmatch(SETTING, name))


@pages
def test_files_exist(page: Path) -> None:
    paths = re.finditer(rf"(?<![\w./~<>-]){TOP}/[\w./-]*\w", text_of(page))
    faults = [(path.start(), f"there is no {path[0]}") for path in paths if not (ROOT / path[0]).exists()]
    for offset, span in spans(page):
        is_file = re.fullmatch(r"\w[\w.-]*(?:/[\w.-]+)*", span) and Path(span).suffix in SOURCES
        if is_file and not any((folder / span).exists() for folder in folders_named(page, offset)):
            faults.append((offset, f"no file {span} here or in a folder that its paragraph names"))
    links = re.finditer(r"\]\(([\w./-]+)[)#]", text_of(page))
    faults += [(link.start(), f"no file {link[1]}") for link in links if not (page.parent / link[1]).exists()]
    check(page, faults)


def folders_named(page: Path, offset: int) -> list[Path]:
    """The root, and the folders that the paragraph or table round this place names, by themselves or by a file."""
    text = text_of(page)
    around = text[text.rfind("\n\n", 0, offset) + 1 : text.find("\n\n", offset) + 1 or None]
    named = [ROOT / path for path in re.findall(rf"`({TOP}/[\w./-]*)`", around)]
    return [ROOT, *(path if path.is_dir() else path.parent for path in named)]


@pages
def test_names_of_code_exist(page: Path) -> None:
    faults = []
    beside = rf"`({TOP}/[\w./]+\.py)`(?: | \| | \()`([A-Za-z_][\w.]*)(?:\([^`]*\))?`"
    for found in re.finditer(beside, text_of(page)):
        if found[1] in modules() and found[2] not in names_in(found[1]):
            faults.append((found.start(), f"{found[1]} does not define {found[2]}"))
    faults += [(offset, f"nothing of ours is called {span}") for offset, span in spans(page) if not known(span)]
    check(page, faults)


def known(span: str) -> bool:
    """Whether a span that looks like a name of code is one; anything else passes."""
    if re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", span):
        module, _, name = span.rpartition(".")
        return span in dotted() or (module in dotted() and name in names_in(dotted()[module]))
    if call := re.fullmatch(r"([a-z_]\w*)\([^)]*\)", span):
        return call[1] in all_names() or hasattr(builtins, call[1])
    if member := re.fullmatch(r"([A-Z]\w*[a-z]\w*\.[a-z]\w*)(?:\([^)]*\))?", span):
        return member[1] in all_names()
    if function := re.fullmatch(r"([a-z]\w*)\.([a-z]\w*)(\([^)]*\))?", span):
        paths = [path for path in modules() if path.endswith(f"/{function[1]}.py")]
        return not paths or not function[3] or any(function[2] in names_in(path) for path in paths)
    is_name = re.fullmatch(r"[a-z]\w*_\w+|_?[A-Z]+[a-z0-9]+[A-Z]\w*", span)
    return not is_name or span in source_words()


@pages
def test_settings_are_read(page: Path) -> None:
    elsewhere = constants([path for path in modules() if not path.startswith(("generation/", "imagegenx_site/set"))])
    makefile = set(re.findall(SETTING, text_of(ROOT / "Makefile") + text_of(ROOT / "deploy/containers/compose.yaml")))
    faults = []
    for found in re.finditer(rf"`({SETTING})`|(?<![\w$/-])({SETTING})=(?=[\w/.\"])", text_of(page)):
        name = found[1] or found[2]
        if ("_" in name or found[2]) and name not in settings_read() | elsewhere | makefile | OTHERS:
            faults.append((found.start(), f"no environment variable {name} is read"))
    check(page, faults)


def test_every_setting_is_listed() -> None:
    missing = settings_read() - set(re.findall(rf"`({SETTING})`", text_of(ROOT / "docs/operations.md")))
    assert not missing, f"docs/operations.md does not list {sorted(missing)}, which settings.py reads"


@pages
def test_commands_exist(page: Path) -> None:
    targets = set(" ".join(re.findall(r"^([\w -]+):(?!=)", text_of(ROOT / "Makefile"), re.M)).split())
    calls = [
        (r"(?:`|^|\d |\S=\S+ )make ([a-z][\w-]*)", targets, "make target"),
        (r"manage\.py\s+([a-z]\w*)|make manage ARGS=\"([a-z]\w*)", set(get_commands()), "command of manage.py"),
        (rf"-m ({TOP}[\w.]+)", set(dotted()), "module"),
        (
            r"`(maintenance\.\w+)`",
            constants([path for path in modules() if "housekeeping/" in path]),
            "Celery function",
        ),
        (r"\b(imagegenx_(?!site)\w+)", set(source_words()), "metric"),
    ]
    faults = []
    for pattern, there, what in calls:
        for found in re.finditer(pattern, text_of(page), re.M):
            name = next(filter(None, found.groups()))
            if name not in there:
                faults.append((found.start(), f"there is no {what} {name}"))
    check(page, faults)


def test_the_walk_names_functions_that_are_used() -> None:
    text = text_of(ROOT / "docs/architecture.md")
    rows = re.findall(r"^\| \d+ \|.*$", text[text.index(WALK) : text.index("\n## ", text.index(WALK))], re.M)
    assert [row.split(" | ")[0] for row in rows] == [f"| {number}" for number in range(1, 11)]
    product = [text_of(ROOT / path) for path in modules() if "/tests/" not in path]
    words = [word for source in product for word in re.findall(r"(?<!def )(?<!class )\b[A-Za-z_]\w+", source)]
    for row in rows:
        pairs = re.findall(rf"`{TOP}/[\w./]+\.(?:py|lua)`(?: `(\w+\.)?(\w+)`)?", row)
        assert any(name for _, name in pairs), f"no function beside a file: {row}"
        unused = [name for _, name in pairs if name and name not in words]
        assert not unused, f"nothing calls {unused}: {row}"
