"""The page's modules that only calculate, in the browser that runs them."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def run(live: str, open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function of a module of the page."""
    page = open_page(live)

    def called(module: str, name: str, *values: Any) -> Any:
        code = (
            "async ([module, name, values]) => (await import(`/static/generation/studio/${module}`))[name](...values)"
        )
        return page.evaluate(code, [module, name, list(values)])

    return called


def test_calculations(run: Callable[..., Any]) -> None:
    def expanded(text: str, most: int = 100) -> Any:
        return run("make/wildcards.js", "expand", text, most)

    assert expanded("a {red|blue} {cat|dog}") == ["a red cat", "a red dog", "a blue cat", "a blue dog"]
    assert expanded("a cat") == ["a cat"]
    assert expanded("a {very|} small cat") == ["a very small cat", "a small cat"]
    assert expanded("an {open brace and {one}") == ["an {open brace and {one}"]
    assert len(expanded("{a|b|c|d|e}{a|b|c|d|e}{a|b|c|d|e}")) == 100

    known = ["a", "cat", "red", "小猫", "红色", "的", "star"]
    assert run("make/words.js", "unknownWords", "A red cat, two stars on a bicycle", known) == ["bicycle"]
    assert run("make/words.js", "unknownWords", "红色的小猫骑自行车", known) == ["骑自行车"]
    assert run("make/words.js", "unknownWords", "anything", None) == []
    assert run("make/words.js", "completions", "a re", known) == ["d"]

    limits = {"low": 256, "high": 1024}
    assert run("make/shape.js", "sidesOf", "16:9", 1024) == [1024, 576]
    assert run("make/shape.js", "longerSides", "2:3", limits) == [384, 448, 512, 640, 768, 1024]
    assert run("make/shape.js", "shapeOf", "384x512") == {"ratio": "3:4", "longer": 512}

    rows = run(
        "batch/csv.js", "rowsOf", '\ufeffstyle,Text,seed\r\ncartoon,"a ""red"", round\nball",7\r\n,,\r\n,star,\r\n'
    )
    assert rows == [
        {"text": 'a "red", round\nball', "params": {"style": "cartoon", "seed": 7}},
        {"text": "star", "params": {}},
    ]
    assert run("batch/csv.js", "rowsOf", "a cat, asleep\n\n a dog \n") == [
        {"text": "a cat, asleep", "params": {}},
        {"text": "a dog", "params": {}},
    ]
    assert run("batch/csv.js", "csvOf", ["a"], [["=1+1"], ['x"y'], [-5]]) == 'a\r\n\'=1+1\r\n"x""y"\r\n-5'
