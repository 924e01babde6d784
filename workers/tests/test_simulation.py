"""The simulator against results calculated by hand, with the real scripts."""

import pytest

from workers.simulation.run import Simulation, devices_needed, lower_bound_of_devices
from workers.simulation.scenario import Scenario, StepCost, TrafficKind

NORMAL = TrafficKind(1, 2, 512, 10)


def test_the_throughput_of_one_device_follows_from_its_step_time(redis):
    cost = StepCost(20, 0, after_ms=0)  # a batch of 8 in 10 steps of 20 ms: 40 pictures a second
    outcome = Simulation(redis, Scenario(86_400 * 100, 1, cost, [NORMAL], peak=1, seconds=10)).run()
    used = 10 / 11  # while a task's rows are won its place stays empty for a step
    assert outcome.per_second == pytest.approx(40 * used, rel=0.05)
    assert outcome.utilisation == pytest.approx(1, abs=0.02)
    assert outcome.mean_batch == pytest.approx(8 * used, abs=0.2)


def test_without_load_a_picture_takes_its_steps_only(redis):
    cost = StepCost(20, 0, after_ms=10)
    outcome = Simulation(redis, Scenario(86_400, 2, cost, [NORMAL], peak=0.2, seconds=60)).run()
    assert outcome.durations[2][0] == pytest.approx(0.21, abs=0.03)
    assert outcome.backlog == 0


def test_p0_waits_a_step_when_the_rest_is_saturated(redis):
    mix = [TrafficKind(0.97, 2, 512, 20), TrafficKind(0.03, 0, 512, 10)]
    outcome = Simulation(redis, Scenario(86_400 * 30, 1, StepCost(20, 5, after_ms=0), mix, peak=1, seconds=15)).run()
    assert outcome.waits[0][0] < 0.07
    assert outcome.waits[2][0] > 1


def test_the_search_ends_at_enough_devices(redis):
    scenario = Scenario(86_400 * 50, 1, StepCost(20, 0, after_ms=0), [NORMAL], peak=1, seconds=8)
    assert lower_bound_of_devices(scenario) == 2
    found, outcome = devices_needed(redis, scenario, longest_p95=0.5)
    assert found.devices == 2
    assert outcome.waits[2][1] <= 0.5
