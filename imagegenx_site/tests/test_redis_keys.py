"""The table at the top of redis_clients.py and the code name the same keys."""

import re
from pathlib import Path

from imagegenx_site import redis_clients

ROOT = Path(__file__).parents[2]
PRODUCT = ("imagegenx_site", "generation", "workers", "storage", "postprocessing", "deploy")
KEY = re.compile(r"\b(?:gq|rl|gx)(?::(?:[a-z_]+|\{[^{}]*\}))+")


def table() -> dict[str, str]:
    """Key -> who writes it: a file, or a package."""
    found, owner = {}, ""
    for line in (redis_clients.__doc__ or "").splitlines():
        if line.startswith("    ["):
            owner = line.strip(" []")
        elif key := re.match(r"    ((?:gq|rl|gx):\S+(?: \S+\})?\S*)", line):
            found[key[1]] = owner
    return found


def plain(key: str) -> str:
    """The key up to its first variable part."""
    return key.partition("{")[0].rstrip(":")


def source(path: str) -> str:
    """What is written there, without tests."""
    place = ROOT / path
    files = [place] if place.is_file() else [*place.rglob("*.py"), *place.rglob("*.lua")]
    return "\n".join(file.read_text() for file in files if "tests" not in file.parts)


def test_every_key_of_the_code_is_in_the_table() -> None:
    known = {plain(key) for key in table()}
    written = {plain(key) for path in PRODUCT for key in KEY.findall(source(path))}
    assert written - {"gq", "rl", "gx"} - known == set()


def test_every_key_of_the_table_is_written_by_its_owner() -> None:
    assert len(table()) > 30
    for key, owner in table().items():
        written = "rl:{name}:{whose}" if owner.endswith("rates.py") else plain(key)  # rates name their counters
        assert written in source(owner), (key, owner)


def test_clients_are_made_in_one_place() -> None:
    made = {
        str(file.relative_to(ROOT))
        for package in ("imagegenx_site", "generation", "workers", "storage")
        for file in (ROOT / package).rglob("*.py")
        if "tests" not in file.parts and "from_url(" in file.read_text()
    }
    assert made == {"imagegenx_site/redis_clients.py"}
