"""The whole product, started once with traces on and watched by a real Prometheus and Alertmanager: every panel's query
has an answer, every alert is quiet, a task's trace is whole, `make logs` shows its life. For `make test-ops`.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml

from deploy.monitoring import dashboards
from deploy.monitoring.tests.conftest import ALL, Run, program
from deploy.monitoring.tests.hook_receiver import HookReceiver, wait_for
from deploy.product import ROOT, answers
from deploy.services import free_port
from deploy.tests.test_run import Runs
from fixtures.otlp_collector import Collector, ReceivedSpan
from imagegenx_site.ids import from_public

pytestmark = [
    pytest.mark.skipif(not ALL, reason="starts everything: make test-ops"),
    pytest.mark.timeout(900),
]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SCRAPE_S = 2


@dataclass
class Watched:
    ready: dict[str, Any]
    folder: Path
    collector: Collector
    hooks: HookReceiver
    tasks: list[UUID] = field(default_factory=list)
    prometheus: str = ""

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.ready['api_key']}", "prefer": "wait=60", **headers}
        return httpx.post(f"{self.ready['url']}/api/v1/{path}", json=body, headers=headers, timeout=90)

    def ask(self, query: str) -> list[Any]:
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, timeout=30)
        assert answer.status_code == 200, (query, answer.text)
        found: list[Any] = answer.json()["data"]["result"]
        return found


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Running, with some tasks behind it."""
    folder, collector, hooks = tmp_path_factory.mktemp("watched"), Collector(), HookReceiver()
    runs = Runs(folder)
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "PRIVATE_CALLBACKS": "127.0.0.0/8",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        process = runs.start()
    try:
        watched = Watched(runs.wait_ready(), runs.var_dir, collector, hooks)
        _work(watched)
        yield watched
    finally:
        process.terminate()
        process.wait(60)
        collector.close()


def _work(watched: Watched) -> None:
    """Pictures with most steps of post-processing, and a webhook."""
    steps = {"brightness": 0.1, "watermark": {"kind": "text", "text": "x"}, "upscale": {"scale": 2}}
    lora = {"loras": [{"name": "outline", "weight": 0.5}]}
    size = {"resolution": "256x256", "steps": 6}
    first = {
        "text": "a red circle",
        "params": size | {"postprocess": steps},
        "callback_url": watched.hooks.url,
    }
    answers = [watched.post("image/generate", first, traceparent=CALLER)]
    answers.append(
        watched.post("image/generate", {"text": "a blue square", "params": size | lora | {"num_images": 2, "seed": 7}})
    )
    for answer in answers:
        assert answer.is_success, answer.text
        data = answer.json()["data"]
        assert data["status"] == "succeeded", answer.text
        watched.tasks.append(from_public(data["task_id"]) or UUID(int=0))
    wait_for(lambda: watched.hooks.bodies, 30, "the webhook")


@pytest.fixture(scope="module")
def watched(product: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """With a Prometheus that has scraped it several times, with work in between."""
    folder = tmp_path_factory.mktemp("prometheus")
    web = product.ready["url"].removeprefix("http://")
    made = [sys.executable, "-m", "deploy.monitoring", "--to", str(folder), "--web", web]
    subprocess.run(made, check=True, cwd=ROOT)
    place = folder / "prometheus.yaml"
    config = yaml.safe_load(place.read_text())
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    place.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={place}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    product.prometheus = f"http://{address}"
    try:
        wait_for(lambda: answers(f"http://{address}/-/ready"), 30, "Prometheus")
        wait_for(lambda: product.ask('up{job="imagegenx"} == 1'), 30, "the first scrape")
        time.sleep(SCRAPE_S)
        _work(product)
        time.sleep(3 * SCRAPE_S)
        yield product
    finally:
        process.terminate()
        process.wait(30)


# ---- traces and logs ------------------------------------------------------------------------------------------------


def _trace(watched: Watched, task: UUID) -> dict[str, ReceivedSpan]:
    """One span of each name, once the trace is whole."""
    wait_for(lambda: {"task", "webhook", "upload"} <= watched.collector.of(task).keys(), 20, "the trace")
    time.sleep(1)
    return {name: some[0] for name, some in watched.collector.of(task).items()}


def test_the_trace_of_a_task_shows_where_its_time_went(product: Watched) -> None:
    trace = _trace(product, product.tasks[0])
    root, run, stage = trace["task"], trace["run"], trace["postprocess"]
    of_root = {"request", "queue", "run", "raw", "postprocess", "upload", "notify", "webhook"}
    of_run, of_stage = (
        {"load", "encode", "denoise", "decode"},
        {"read", "check", "basic", "superres", "tone", "watermark", "format", "save"},
    )
    assert trace.keys() == {"task"} | of_root | of_run | of_stage
    assert {trace[name].parent for name in of_root} == {root.span_id}
    assert {trace[name].parent for name in of_run} == {run.span_id}
    assert {trace[name].parent for name in of_stage} == {stage.span_id}
    assert trace["request"].links == (0x0AF7651916CD43DD8448EB211C80319C,)
    assert {name: trace[name].process for name in ("request", "run", "postprocess", "webhook")} == {
        "request": "imagegenx/web",
        "run": "imagegenx/gpu-worker",
        "postprocess": "imagegenx/cpu-worker",
        "webhook": "imagegenx/webhook-worker",
    }
    assert trace["denoise"].fields["steps"] == 6
    assert trace["denoise"].fields["mean_batch"] >= 1
    assert trace["webhook"].fields["http.response.status_code"] == 200
    order = [trace[name].began for name in ("queue", "run", "raw", "postprocess", "upload", "webhook")]
    assert order == sorted(order)
    slack = 0.05  # clocks: Postgres' stamps and those of the processes, ms in ids
    for name in (*of_root - {"webhook", "notify", "request"}, *of_run):
        span = trace[name]
        assert root.began - slack <= span.began <= span.ended <= root.ended + slack, name
    assert not any(span.error for span in trace.values())


def test_the_logs_show_one_tasks_life_over_all_processes(product: Watched) -> None:
    env = os.environ | {"VAR_DIR": str(product.folder)}
    task = f"img{product.tasks[0].hex}"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.monitoring.task_log", task],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    moves = re.findall(r"  task (\w+)", done.stdout)
    assert moves == ["submitted", "running", "generated", "processed", "stored", "succeeded"]
    processes = {line.split()[2] for line in done.stdout.splitlines()}
    assert {"web", "gpu-worker", "cpu-worker"} <= processes


# ---- Prometheus -----------------------------------------------------------------------------------------------------


def test_the_metrics_are_as_promtool_wants_them(product: Watched, run: Run) -> None:
    assert run("promtool", "check", "metrics", input=httpx.get(product.ready["url"] + "/metrics").text) == ""


@pytest.mark.parametrize("board", dashboards.ALL, ids=lambda board: board.uid)
def test_every_panel_has_an_answer(watched: Watched, board: dashboards.Dashboard) -> None:
    empty = []
    for panel in board.panels:
        for query in panel.queries:
            found = watched.ask(query.expr.replace("$__rate_interval", "1m"))
            if not found and not query.rare:
                empty.append(f"{panel.title}: {query.expr}")
    assert not empty, "\n".join(["no answer:", *empty])


def test_no_alert_fires_on_a_healthy_product(watched: Watched) -> None:
    answer = httpx.get(f"{watched.prometheus}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in answer for rule in group["rules"]]
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    assert [(rule["name"], rule["alerts"]) for rule in rules if rule["state"] != "inactive"] == []
