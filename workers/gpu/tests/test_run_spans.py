"""The spans of a task on a GPU worker: from the engine's times, with traces on only."""

import time

import numpy as np
import pytest
from django.conf import settings

from fixtures.fleet import submit
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import redis_clients
from imagegenx_site.tracing import spans
from imagegenx_site.tracing.values import root_of
from workers.engine.requests import Failed, Finished, SampleTimes
from workers.gpu import persistence, run_spans, task_claims
from workers.gpu.outcomes import End, Outcome
from workers.gpu.running_tasks import RunningTask

WORKER = "gpu1-a"


@pytest.fixture
def running(user, collector) -> RunningTask:
    """A task of two pictures whose row this worker has won."""
    config = WorkerQueueConfig(worker=WORKER, own_queue="dq.gpu1", window_ms=0)
    queue = WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config)
    submit(user, num_images=2)
    (claimed,) = task_claims.claim_rows(queue.claim(1).tasks, WORKER).running
    return claimed


def times(after: float = 0.0) -> SampleTimes:
    """Of a sample that had four steps, in batches of three, and gave way to P0 for a second."""
    began = time.monotonic() - 20 + after
    return SampleTimes(began, began + 1, began + 8, began + 8, began + 9, steps=4, joined=12, paused=1.0)


def test_a_run_has_its_parts_and_the_wait_before_it(running, collector):
    for index in range(2):
        picture = np.zeros((256, 256, 3), np.float32)
        event = Finished(running.samples[index].sample_id, picture, times=times(index))
        running.note_times(event)
        running.finish_sample(event)
    run_spans.record_run(running, running.outcome)
    persistence.persist_pictures(running, WORKER)
    spans.flush()
    found = {name: span for name, [span] in collector.of(running.task.id).items()}
    assert found.keys() == {"queue", "run", "raw", "load", "encode", "denoise", "decode"}
    run, denoise = found["run"], found["denoise"]
    assert {found[name].parent for name in ("queue", "run", "raw")} == {root_of(running.task.id)}
    assert {found[name].parent for name in ("load", "encode", "denoise", "decode")} == {run.span_id}
    assert run.fields["pictures"] == 2
    assert (run.fields["outcome"], run.fields["worker"], run.error) == ("finished", WORKER, "")
    assert denoise.fields == {"steps": 8, "mean_batch": 3.0, "paused_s": 2.0}
    assert denoise.ended - denoise.began == pytest.approx(8, abs=0.01)  # from the first's begin to the last's end
    assert found["queue"].fields["class"] == "P2"


def test_a_run_that_failed_says_why(running, collector):
    error = RuntimeError("the latent is not finite")
    running.note_times(Failed(running.samples[0].sample_id, error, True, SampleTimes(began=time.monotonic())))
    run_spans.record_run(running, Outcome(End.FAILED, error))
    spans.flush()
    found = collector.of(running.task.id)
    assert found.keys() == {"queue", "run", "load"}
    assert found["run"][0].error == "failed: the latent is not finite"


def test_without_traces_nothing_is_kept(running, monkeypatch):
    spans.flush()
    monkeypatch.setattr(spans, "ENABLED", False)
    run_spans.record_run(running, Outcome(End.FINISHED))
    assert spans._waiting.empty()
