"""What documents repeat from elsewhere is the same there: figures of a benchmark, the order of the rooms."""

import itertools
import json
import re
import tomllib
from pathlib import Path

import yaml

from generation.catalogue import samplers
from postprocessing.quality import DEFAULT_QUALITY
from postprocessing.recipe import Output

ROOT = Path(__file__).resolve().parents[2]


def test_the_engines_figures_are_those_of_its_last_run() -> None:
    run = json.loads((ROOT / "docs/benchmarks/engine.json").read_text())
    page = (ROOT / "docs/engine.md").read_text("utf-8")
    measured = {(one["server"], one["load"]): one["p95"] for one in run["runs"]}
    table = page[page.index("| p95 in seconds at load |") :].split("\n\n")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    shown = {(row[0], float(load)): float(p95) for row in rows for load, p95 in zip(head[1:], row[1:], strict=True)}
    assert shown == {key: round(p95, 2) for key, p95 in measured.items()}
    assert f"makes {run['offline']['ratio']} times the images/s" in " ".join(page.split())
    assert f"{run['tasks']} tasks at each load, {run['side']} pixels" in page
    engine, static, single = (measured[server, 0.95] for server in ("engine", "static batches", "one at a time"))
    ratios = re.search(r"At load 0.95 the p95 is ([\d.]+) of that of static batches .*? and ([\d.]+) of one", page)
    assert ratios
    assert ratios.groups() == (f"{engine / static:.2f}", f"{engine / single:.2f}")


def test_the_defaults_of_files_are_those_of_the_document() -> None:
    page = (ROOT / "docs/postprocessing.md").read_text("utf-8")
    block = page[page.index("## The `postprocess` block") :]
    said = {
        cells[0]: cells[3].strip("`")
        for line in block.splitlines()
        if len(cells := [cell.strip() for cell in line.split("|")[1:-1]]) == 5
    }
    usual = Output()
    shown = (usual.format, str(usual.lossless).lower(), usual.metadata, str(usual.icc).lower())
    assert tuple(said[f"`{name}`"] for name in ("format", "lossless", "metadata", "icc")) == shown
    assert said["`quality`"] == ", ".join(f"{DEFAULT_QUALITY[name]} {name}" for name in ("webp", "avif", "jpeg"))


def test_the_guide_names_every_sampler() -> None:
    page = (ROOT / "docs/api.md").read_text("utf-8")
    sentence = page[page.index("`sampler` is `auto`") :].split(". ")[0]
    assert tuple(re.findall(r"`([a-z+_]+)`", sentence))[1:] == samplers.NAMES


def test_the_workflow_runs_what_the_contributors_run() -> None:
    workflow = (ROOT / ".github/workflows/ci.yaml").read_text()
    assert yaml.safe_load(workflow)["jobs"]["check"]["steps"][-1] == {"run": ".ci/run"}
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for form in forms[1:]:
        fields = [part["id"] for part in yaml.safe_load(form.read_text())["body"] if part["type"] != "markdown"]
        assert len(fields) == len(set(fields)) > 0, form.name


def test_the_readme_says_how_to_begin_before_anything_else() -> None:
    """A sentence, a picture, two commands, in this order; every document is linked."""
    page = (ROOT / "README.md").read_text("utf-8")
    order = [page.index(part) for part in ("ImageGenX is a", "![", "make run", "curl ", "## What it does")]
    assert order == sorted(order)
    listed = page[page.index("## Documentation") :]
    missing = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if f"(docs/{path.name})" not in listed]
    assert not missing, f"README.md does not link {missing}"
    assert all((ROOT / name).exists() for name in re.findall(r"\]\(([\w./-]+)\)", page))


def test_the_order_of_the_rooms_is_that_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(re.findall(r"[\w.]+", layer)) for layer in contracts[0]["layers"]]
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = page[page.index("## The order of the rooms") :].split("\n\n")[2]
    rooms = [re.findall(r"`([\w.]+)`", item) for item in re.split(r"^\d+\. ", section, flags=re.M)[1:]]

    def place(room: str) -> int:
        found = (at for at, layer in enumerate(layers) if any(f"{one}.".startswith(f"{room}.") for one in layer))
        return next(found, -1)

    places = [{place(room) for room in item} for item in rooms]
    assert all(-1 not in item for item in places), "a room of docs/architecture.md is no layer of pyproject.toml"
    pairs = itertools.pairwise(places)
    wrong = [number for number, (upper, lower) in enumerate(pairs, 1) if max(upper) > min(lower)]
    assert not wrong, f"docs/architecture.md: rooms {wrong} stand above the next, pyproject.toml says otherwise"
