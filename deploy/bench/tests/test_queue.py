"""The queues' benchmark, made small: every part runs and says what it measured."""

import json

import pytest
from django.db import connection

from deploy.bench.queue import __main__, after_gpu, claims, live, load, peers, rows


@pytest.fixture
def kept(tmp_path):
    return __main__.Kept(tmp_path)


def test_claims_are_measured_at_each_size_and_keep_their_shares(redis_url, kept, monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", 12)
    bench = claims.Bench(redis_url)
    kept.put("claims", list(bench.claims(150)))
    kept.put("shares", bench.shares())
    measured = json.loads((kept.folder / "queue.json").read_text())
    assert [(row["waiting"], row["keys"]) for row in measured["claims"]] == [
        (size, keys) for keys in (1, 16, 256) for size in (100, 150)
    ]
    assert measured["shares"] == pytest.approx({"P0": 0.5, "P1": 0.3, "P2": 0.1, "P3": 0.1}, abs=0.002)
    assert "| 150 | 256 |" in (kept.folder / "queue.md").read_text()


def test_two_tables_are_measured_side_by_side(transactional_db, monkeypatch):
    for name, value in {"DAYS": 1, "TURNS": 1, "CALLS": 2, "WARM": 0}.items():
        monkeypatch.setattr(rows, name, value)
    table = rows.Table(20, connection.settings_dict["NAME"])
    found = rows.compare(table, table)
    assert all(before > 0 and after > 0 for before, after in found["times"].values())
    assert "insert of a task" in "\n".join(rows.lines(found))


def test_live_loads_are_measured_beside_simulator_and_estimates(transactional_db, kept, monkeypatch):
    monkeypatch.setattr(load, "DEVICES", 1)
    kept.put("live", live.measure(seconds=1.5, part=0.05))
    found = json.loads((kept.folder / "queue.json").read_text())["live"]
    assert [run["load"] for run in found["loads"]] == list(load.LOADS)
    for run in found["loads"]:
        assert run["measured"]["tasks"] == run["simulated"]["tasks"] > 0
    assert sum(found["loads"][0]["measured"]["shares"]) == pytest.approx(1, abs=0.01)
    assert found["idle"]["submit_to_claim_ms"][0] > 0
    assert "simulated" in (kept.folder / "queue.md").read_text()


def test_a_machine_that_ends_nothing_while_the_load_comes_is_outside_the_tolerance():
    waits = {f"P{number}": [1.0, 2.0] for number in range(4)}
    found = live.apart({"per_second": 0.0, "waits": waits}, {"per_second": 4.0, "waits": waits})
    assert not found["within"]
    assert found["waits"] == {f"P{number}": [0.0, 0.0] for number in range(4)}


def test_plain_celery_does_the_same_loads_and_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(load, "DEVICES", 1)
    monkeypatch.setattr(peers, "our_runs", lambda seconds, part: [])
    found = peers.measure(seconds=1, python="", part=0.05)
    assert [run["load"] for run in found["runs"]] == list(load.LOADS)
    assert all(run["system"] == "plain Celery" for run in found["runs"])
    assert found["missing"].keys() == {"celery-batches"}
    assert "celery-batches: not installed" in "\n".join(peers.lines(found))


def test_urgent_tasks_after_the_gpu_are_timed_with_and_without_classes(transactional_db, kept, monkeypatch, settings):
    settings.STORAGES = dict(settings.STORAGES)
    monkeypatch.setattr(after_gpu, "URGENT", 2)
    monkeypatch.setattr(after_gpu, "EVERY_S", 0.1)
    kept.put("after", after_gpu.measure(others=4))
    found = {row["way"]: row for row in json.loads((kept.folder / "queue.json").read_text())["after"]["ways"]}
    assert found.keys() == after_gpu.WAYS.keys()
    assert 0 < found["nobody"]["median_s"] <= found["nobody"]["worst_s"]
    for way in ("one queue", "classes"):
        assert 0 < found[way]["median_s"] < found[way]["all_s"], "the urgent ones do not wait for all enlargements"
    assert "| classes |" in (kept.folder / "queue.md").read_text()
