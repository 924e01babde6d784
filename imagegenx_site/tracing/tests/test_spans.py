"""Traces: off without cost, sent from a side thread, one trace for each task whoever records it."""

import os
import subprocess
import sys
import time
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from deploy.services import free_port
from fixtures.otlp_collector import Collector
from imagegenx_site.ids import uuid7
from imagegenx_site.tracing import exporter, spans
from imagegenx_site.tracing.values import TaskSpan, root_of

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IMPORTED = "import django, sys; django.setup(); import generation.tasks.move_log; from django.conf import settings; "
IMPORTED += "print('opentelemetry.exporter' in sys.modules, *settings.MIDDLEWARE[:1])"


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on(variables: dict[str, str], on: bool) -> None:
    assert spans._asked_for(variables) is on


@pytest.mark.parametrize("on", [False, True])
def test_while_off_nothing_is_imported_and_no_middleware_runs(on: bool) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} if on else {}
    done = subprocess.run([sys.executable, "-c", IMPORTED], env=env, capture_output=True, text=True, check=True)
    imported, first = done.stdout.split()
    assert imported == "False"  # also while on: the side thread imports it with the first span
    assert (first == "imagegenx_site.tracing.requests.traced_requests") is on


def test_spans_of_a_task_make_one_trace(collector: Collector) -> None:
    task, began = uuid7(), time.time()
    spans.record(TaskSpan(task, "queue", began, began + 0.5, {"class": "P1", "attempt": 2}))
    spans.record(TaskSpan(task, "request", began, began + 0.1, kind="server", links=(CALLER, "nonsense")))
    with pytest.raises(ValueError), spans.timed(task, "upload"):
        raise ValueError("no such place")
    spans.record(TaskSpan(task, "task", began, began + 2, span_id=root_of(task)))
    spans.flush()
    found = collector.of(task)
    assert {name: len(some) for name, some in found.items()} == {"queue": 1, "request": 1, "upload": 1, "task": 1}
    [root], [queue], [request], [upload] = found["task"], found["queue"], found["request"], found["upload"]
    assert (root.span_id, root.parent) == (root_of(task), 0)
    assert {span.parent for span in (queue, request, upload)} == {root.span_id}
    assert queue.fields == {"class": "P1", "attempt": 2}
    assert queue.ended - queue.began == pytest.approx(0.5, abs=1e-3)
    assert request.links == (0x0AF7651916CD43DD8448EB211C80319C,)
    assert (queue.error, upload.error) == ("", "ValueError: no such place")
    assert root.process == "imagegenx/python"


def test_a_forked_child_sends_its_own(collector: Collector) -> None:
    task = uuid7()
    spans.record(TaskSpan(task, "parent", 1, 2))
    child = os.fork()
    if not child:
        spans.record(TaskSpan(task, "child", 1, 2))
        spans.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    spans.flush()
    assert {name: len(some) for name, some in collector.of(task).items()} == {"parent": 1, "child": 1}


def test_a_receiver_that_is_away_delays_nobody(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    for number in range(spans._WAITING_SPANS + 1000):
        spans.record(TaskSpan(UUID(int=number + 1), "queue", 1, 2))
    assert time.monotonic() - began < 5
    began = time.monotonic()
    spans.flush()
    assert time.monotonic() - began < 2 * spans._FLUSH_S + 2


def test_a_ratio_chooses_that_part_of_the_tasks() -> None:
    ids = [uuid7().int for _ in range(2000)]
    assert 120 < sum(exporter.is_sampled(number, 0.1) for number in ids) < 290
    assert all(exporter.is_sampled(number, 1) for number in ids)
    own = TraceIdRatioBased(0.1)  # why ours is there
    assert not any(own.should_sample(None, number, "task").decision.is_sampled() for number in ids)


@pytest.mark.parametrize(
    ("sampler", "argument", "part"),
    [
        ("", "", 1),
        ("always_on", "", 1),
        ("parentbased_always_off", "", 0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "0", 0),
        ("traceidratio", "many", 1),
        ("traceidratio", "7", 1),
    ],
)
def test_the_sampler_of_the_standard_variables(sampler: str, argument: str, part: float) -> None:
    assert exporter.sampled_part({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}) == part


def test_only_a_valid_traceparent_is_a_link() -> None:
    found = exporter.parse_traceparent(CALLER)
    assert found is not None
    assert found.span_id == 0xB7AD6B7169203331
    for text in ("", "ff" + CALLER[2:], "00-" + "0" * 32 + CALLER[35:], CALLER.upper()):
        assert exporter.parse_traceparent(text) is None, text
