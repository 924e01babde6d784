"""The parts of a submission, each beside the usual way of doing it: CPU of this process and round trips saved, in one
run.

    python -m deploy.services run -- python -m deploy.bench.api.parts [--calls 500]
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
django.setup()

from django.core.management import call_command

from deploy.bench.api.__main__ import BODY, unlimited_key
from generation.accounts import key_cache, plans
from generation.accounts.models import ApiKey
from generation.admission import rates
from generation.api.forms import RequestContext, parse
from generation.api.kind_forms import form_of
from generation.catalogue import snapshot
from generation.catalogue.kinds import KINDS
from generation.catalogue.parameters import Parameters
from generation.queue import client as queue_client
from generation.tasks import enqueue, submit
from generation.tasks.models import Task
from imagegenx_site.celery import app
from imagegenx_site.ids import uuid7
from imagegenx_site.row_statements import insert

Call = Callable[[], Any]


class Parts:
    """One key, one prepared task, and the pairs of ways."""

    def __init__(self) -> None:
        _, self.prefix, _ = unlimited_key().split("_", 2)
        self.key = ApiKey.objects.select_related("user__team__plan").get(prefix=self.prefix)
        self.known = snapshot.current()
        self.plan = plans.plan_of(self.key)
        self.form_context = RequestContext("text2img", self.key.user, self.plan, self.known)
        self.parameters = Parameters("text2img", "x", "", 256, 256, 8, 4.0, "euler", 7)
        submission = submit.Submission(self.parameters, self.known.models[0], "x", 2)
        self.row = lambda: submit._new_row(uuid7(), submission, self.key.user, self.key, None)

    def pairs(self) -> dict[str, tuple[Call, Call]]:
        """Name -> the usual way, and ours."""
        counters = [("ip", "1"), ("key", "2")]
        return {
            "the key's rows: query / kept": (
                lambda: ApiKey.objects.select_related("user__team__plan", "plan").get(prefix=self.prefix),
                lambda: key_cache.find(self.prefix),
            ),
            "two counters: two calls / one": (
                lambda: [rates.hit([one], 1_000_000) for one in counters],
                lambda: rates.hit(counters, 1_000_000),
            ),
            "the body: new serializer / kept": (self._new_serializer, self._kept_serializer),
            "the row: bulk_create / one INSERT": (
                lambda: Task.objects.bulk_create([self.row()]),
                lambda: insert([self.row()]),
            ),
            "ticket: send_task / in the buffer's script": (self._sent, self._scripted),
        }

    def _new_serializer(self) -> None:
        context = {**vars(self.form_context), "model": self.known.models[0], "faults": []}
        assert form_of(KINDS["text2img"])(data=BODY, context=context).is_valid()

    def _kept_serializer(self) -> None:
        parse(BODY, form_of(KINDS["text2img"]), self.form_context)

    def _entry(self) -> queue_client.Entry:
        return enqueue.entry_of(self.row())

    def _sent(self) -> None:
        entry = self._entry()
        queue_client._script("enqueue")(args=[entry.to_json()])
        app.send_task("generate", (str(entry.task_id),), queue="p2", task_id=str(entry.task_id))

    def _scripted(self) -> None:
        queue_client.enqueue([self._entry()])


def cpu_ms(call: Call, calls: int) -> float:
    """CPU time of this thread for one call."""
    for _ in range(10):
        call()
    began = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - began) / calls * 1000


def main() -> None:
    """Measure each pair in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    for command in ("migrate", "seed", "partitions"):
        call_command(command, verbosity=0)
    found = {}
    print("| part: usual way / ours | CPU ms: usual | ours |", "|---|---|---|", sep="\n")
    for name, (usual, ours) in Parts().pairs().items():
        found[name] = (round(cpu_ms(usual, options.calls), 3), round(cpu_ms(ours, options.calls), 3))
        print(f"| {name} | {found[name][0]:.3f} | {found[name][1]:.3f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
