"""`manage.py simulate`: how many devices a load needs, and how long its tasks wait."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from imagegenx_site import redis_clients
from workers.simulation.run import Simulation, SimulationResult, devices_needed, lower_bound_of_devices
from workers.simulation.scenario import Scenario, StepCost, TrafficKind

# ms of a step at 512x512 with guidance; FLOP-consistent estimates, not measurements: put your own in with --cost.
COSTS = {
    "h200-graphs": StepCost(3, 4.2),
    "h200-eager": StepCost(2, 4.2, floor_ms=22),
    "a10": StepCost(6, 26, after_ms=48),
}
NAMES = ", ".join(COSTS)
MIX = (
    TrafficKind(weight=0.05, priority=0, side=512, steps=20),
    TrafficKind(weight=0.35, priority=1, side=512, steps=25),
    TrafficKind(weight=0.10, priority=1, side=1024, steps=25),
    TrafficKind(weight=0.45, priority=2, side=512, steps=20),
    TrafficKind(weight=0.05, priority=3, side=512, steps=20),
)
DATABASE = 15


class Command(BaseCommand):
    help = "Simulates a load on GPU workers with the product's own queue order and prints how many are needed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("per_day", type=float, nargs="+", help="pictures a day")
        parser.add_argument("--cost", default="h200-eager", help=f"{NAMES} or FIXED,PER_SAMPLE[,FLOOR[,AFTER]] ms")
        parser.add_argument("--devices", type=int, default=0, help="try this number only; 0: find the fewest")
        parser.add_argument("--peak", type=float, default=2.0, help="the busiest hour as a multiple of the mean")
        parser.add_argument("--seconds", type=float, default=120.0, help="simulated stretch")
        parser.add_argument("--batch", type=int, default=8, help="largest batch")
        parser.add_argument("--wait", type=float, default=10.0, help="longest wait allowed at the 95th percentile, s")

    def handle(self, *args: Any, **options: Any) -> None:
        parts = urlsplit(settings.REDIS_URL)
        redis = redis_clients.connect(urlunsplit(parts._replace(path=f"/{DATABASE}")), timeout=60)
        self.stdout.write(HEAD)
        for per_day in options["per_day"]:
            redis.flushdb()
            scenario = Scenario(
                per_day, 1, _cost(options["cost"]), MIX, options["peak"], options["seconds"], options["batch"]
            )
            begin = options["devices"] or lower_bound_of_devices(scenario)
            scenario = Scenario(**{**scenario.__dict__, "devices": begin})
            if options["devices"]:
                self.stdout.write(_row(scenario, Simulation(redis, scenario).run()))
            else:
                self.stdout.write(_row(*devices_needed(redis, scenario, options["wait"])))
        redis.flushdb()


HEAD = "| pictures a day | at the peak, per s | devices | busy | mean batch "
HEAD += "| P0 wait p50/p95 | P1 | P2 | P3 | P2 done p50/p95 |\n|---|---|---|---|---|---|---|---|---|---|"


def _row(scenario: Scenario, outcome: SimulationResult) -> str:
    waits = " | ".join("{:.2f} / {:.2f} s".format(*outcome.waits[class_]) for class_ in range(4))
    done = "{:.1f} / {:.1f} s".format(*outcome.durations[2])
    return (
        f"| {scenario.per_day:,.0f} | {scenario.rate:.1f} | {scenario.devices} | {outcome.utilisation:.0%} "
        f"| {outcome.mean_batch:.1f} | {waits} | {done} |"
    )


def _cost(text: str) -> StepCost:
    if text in COSTS:
        return COSTS[text]
    try:
        return StepCost(*map(float, text.split(",")))
    except (TypeError, ValueError):
        raise CommandError(f"--cost is {text!r}; it may be one of {NAMES} or 2 to 4 numbers.") from None
