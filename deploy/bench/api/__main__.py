"""`make bench-api`: submissions and polls per second, and clients on event streams, with real Postgres and Redis.

    python -m deploy.services run -- python -m deploy.bench.api [--requests 2000] [--streams 2000] [--json FILE]

Web processes, servers and this load generator share the machine; each row has the CPU time that each of them spent per
request, which depends little on other work on the machine. The row `empty view` is the baseline: Django's handler and
middleware with an empty view. Needs DATABASE_URL, REDIS_URL and SECRET_KEY.
"""

import argparse
import asyncio
import json
import os
import resource
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
django.setup()

from django.core.management import call_command

from deploy.bench import machine
from deploy.bench.api.client import encoded, flood
from deploy.bench.api.streams import StreamFigures, hold
from generation.accounts.models import ApiKey, Plan, Team, User

BODY = {"text": "a red circle", "params": {"resolution": "256x256", "steps": 8, "style": "cartoon"}}
_GENERATE = "/api/v1/image/generate"
_COLUMNS = "| web processes | request | answers/s | p50 ms | p99 ms | CPU ms: web | Postgres | Redis | client | all |"
_STREAM_COLUMNS = "| streams | opened in s | kB each | CPU ms to open | received after s | CPU ms to send |"
Row = dict[str, Any]


class ApiBench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.key = unlimited_key()
        self.rows: list[Row] = []
        self.held: StreamFigures | None = None

    def run(self) -> None:
        """Measure with each number of web processes; streams on one."""
        print(_COLUMNS, "|---" * 10 + "|", sep="\n", flush=True)
        for processes in self.options.processes:
            with machine.web(processes, machine.log_file()) as web:
                ids = self._requests(web, processes)
                if processes == 1 and self.options.streams:
                    address = (machine.HOST, web.port)
                    self.held = asyncio.run(hold(address, web, self.key, ids, self.options.streams))

    def _requests(self, web: machine.Web, processes: int) -> list[str]:
        submission = encoded("POST", _GENERATE, self.key, BODY)
        count = self.options.requests
        asyncio.run(flood((machine.HOST, web.port), [submission] * 200, self.options.connections))  # warm
        self._flood(web, processes, "empty view", [encoded("GET", "/healthz", self.key)] * count)
        bodies = self._flood(web, processes, "submission", [submission] * count)
        ids = [json.loads(body)["data"]["task_id"] for body in bodies]
        polls = [encoded("GET", f"/api/v1/image/task/{name}", self.key) for name in ids]
        self._flood(web, processes, "first poll of a task", polls)
        self._flood(web, processes, "poll", polls)
        etag = 'If-None-Match: W/"queued-0-0-2-e3b0c442-0"\r\n'
        unchanged = [encoded("GET", f"/api/v1/image/task/{name}", self.key, headers=etag) for name in ids]
        self._flood(web, processes, "poll with ETag", unchanged)
        return ids

    def _flood(self, web: machine.Web, processes: int, name: str, requests: Sequence[bytes]) -> list[bytes]:
        before = web.cpu()
        measured = asyncio.run(flood((machine.HOST, web.port), requests, self.options.connections, keep=True))
        spent = web.cpu() - before
        each = {kind: round(seconds * 1000 / measured.count, 3) for kind, seconds in asdict(spent).items()}
        each["client"] = round(measured.client_cpu * 1000 / measured.count, 3)
        row: Row = {"processes": processes, "request": name, "per_second": round(measured.per_second, 1)}
        row |= {"p50_ms": round(measured.percentile(0.5), 1), "p99_ms": round(measured.percentile(0.99), 1)}
        row |= {"cpu_ms": each, "statuses": dict(measured.statuses)}
        self.rows.append(row)
        print(_line(row), flush=True)
        return measured.bodies

    def report(self) -> None:
        """Print the figures of the streams and write the file."""
        if self.held:
            held = self.held
            print(f"\n{_STREAM_COLUMNS}", "|---" * 6 + "|", sep="\n")
            print(
                f"| {held.streams} | {held.opened_s:.1f} | {held.memory_kb:.0f} | {held.open_cpu_ms:.2f} "
                f"| {held.received_s:.2f} | {held.send_cpu_ms:.2f} |"
            )
        if self.options.json:
            facts = {"connections": self.options.connections, "load_average": os.getloadavg()[0], "rows": self.rows}
            streams = asdict(self.held) if self.held else None
            self.options.json.write_text(json.dumps({**facts, "streams": streams}, indent=1) + "\n")


def _line(row: Row) -> str:
    cpu = row["cpu_ms"]
    share = f"{cpu['client']:.2f} ({cpu['client'] / sum(cpu.values()):.0%})"
    spent = f"{cpu['web']:.2f} | {cpu['postgres']:.2f} | {cpu['redis']:.2f} | {share} | {sum(cpu.values()):.2f}"
    odd = "" if set(row["statuses"]) <= {200, 202, 304} else f" {row['statuses']}"
    times = f"{row['per_second']:.0f} | {row['p50_ms']} | {row['p99_ms']}"
    return f"| {row['processes']} | {row['request']}{odd} | {times} | {spent} |"


def unlimited_key() -> str:
    """A key without limits, as text."""
    everything = {"paid": True, "requests_per_second": 1_000_000, "concurrent_tasks": None, "daily_images": None}
    plan, _ = Plan.objects.update_or_create(name="bench", defaults={"title": "ApiBench", **everything})
    team, _ = Team.objects.get_or_create(name="bench", defaults={"plan": plan})
    user, _ = User.objects.get_or_create(username="bench", defaults={"team": team})
    return ApiKey.make(user, name="bench")[1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="of each kind")
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of web processes to measure")
    parser.add_argument("--streams", type=int, default=2000, help="0: leave out")
    parser.add_argument("--json", type=Path, default=None, help="a file for the figures")
    return parser.parse_args()


def main() -> None:
    """Prepare, serve, measure, print."""
    options = _options()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each stream is a file here and one in the web process
    for command in ("migrate", "seed", "partitions"):
        call_command(command, verbosity=0)
    bench = ApiBench(options)
    bench.run()
    bench.report()


if __name__ == "__main__":
    main()
