"""What the workers measure for the estimates."""

from workers.gpu.progress import Pace


def test_a_step_and_a_megapixel_step_are_timed_while_batches_are_full():
    pace = Pace(0.0)
    for number in range(1, 12):
        pace.stepped([("mini@1:512x512", 512 * 512)] * 4, True, number * 0.1)
        if number < 10:
            assert pace.measured(number * 0.1) == {}
    measured = pace.measured(1.1)
    assert abs(measured["mini@1:512x512"] - 0.1) < 1e-9
    assert abs(measured["full"] - 0.1 / (4 * 0.262144)) < 1e-9
    assert pace.measured(3.0) == {}


def test_batches_that_could_be_fuller_tell_nothing_of_the_speed_of_full_ones():
    pace = Pace(0.0)
    for number in range(1, 12):
        pace.stepped([("mini@1:256x256", 65536)], number != 5, number * 0.1)
    assert set(pace.measured(1.1)) == {"mini@1:256x256"}


def test_time_in_which_nothing_ran_does_not_count():
    pace = Pace(0.0)
    pace.stepped([("a", 100)], True, 50.0)
    for number in range(1, 12):
        pace.stepped([("a", 100)], True, 50.0 + number * 0.1)
    assert abs(pace.measured(51.1)["a"] - 0.1) < 1e-6
