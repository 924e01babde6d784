"""The table of stages, the files of this package, Celery's functions and queues, and the states' moves agree."""

import re
from pathlib import Path

import pytest
from celery import current_app
from kombu import Exchange, Queue

import imagegenx_site.celery as site
from deploy.commands import CommandConfig, command
from generation.queue.classes import queues_of
from generation.tasks.models import Status
from generation.tasks.stages import QUEUES, STAGES, Stage, named, stages_from
from generation.tasks.states import MOVES
from generation.telemetry import system_gauges
from workers import stages

EACH = ["p0", "p1", "p2", "p3", *(queue for work in (*QUEUES, "webhooks") for queue in queues_of(work))]
each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


@each_stage
def test_a_stage_has_a_file_and_a_celery_function_of_its_name(stage: Stage) -> None:
    module = getattr(stages, stage.name)  # importing the package is enough
    assert Path(module.__file__).stem == stage.name
    assert current_app.tasks[stage.name].run == getattr(module, stage.name).run
    assert module.STAGE is stage


def test_no_stage_is_registered_that_the_table_lacks() -> None:
    registered = [
        name for name, function in current_app.tasks.items() if function.__module__.startswith("workers.stages")
    ]
    assert sorted(registered) == sorted(["preview", *(stage.name for stage in STAGES)])  # previews belong to no task


@each_stage
def test_a_stage_makes_a_legal_move_and_may_fail_or_be_cancelled_where_the_task_may(stage: Stage) -> None:
    moves = MOVES[stage.source]
    assert stage.after_delivery or stage.target in moves
    assert stage.cancellable == (Status.CANCELLED in moves)
    assert (stage.on_last_failure == "fail") == (Status.FAILED in moves)


def test_the_stages_after_each_state() -> None:
    names = {state: [stage.name for stage in stages_from(state)] for state in ("generated", "processed", "stored")}
    assert names == {
        "generated": ["postprocess", "upload", "notify"],
        "processed": ["upload", "notify"],
        "stored": ["notify"],
    }
    assert stages_from("succeeded") == (named("enlarge"),)


@pytest.mark.parametrize("name", EACH)
def test_a_queue_is_made_by_its_name(name: str) -> None:
    with site.app.connection_for_write() as connection:
        made = site.app.amqp.queues[name]
        assert made == Queue(name, Exchange(name), routing_key=name)
        assert made(connection).name == name


def test_workers_metrics_and_the_drawing_of_the_app_have_the_queues_of_the_table() -> None:
    workers = ("gpu-worker", "cpu-worker", "enlarge-worker", "io-worker", "webhook-worker")
    lines = [command(name, CommandConfig()) for name in workers]
    read = [queue for line in lines for queue in line[line.index("-Q") + 1].split(",") if queue != "dq.gpu1"]
    assert sorted(read) == sorted(system_gauges.QUEUES) == sorted(EACH)
    drawn = dict.fromkeys(re.findall(r"^    (\w+) +(?=\w+\(id\))", site.__doc__ or "", re.M))
    assert list(drawn) == list(QUEUES)
    for stage in STAGES:
        assert re.search(rf"^    {stage.queue} .*{stage.name}\(id\)", site.__doc__ or "", re.M)
        assert stage.after_delivery or stage.source.name in (site.__doc__ or "")
