"""What follows from a failure, by stage, try and whose fault it is."""

import pytest

from generation.tasks.stages import named
from postprocessing.errors import FontMissing
from workers.stages.failures import GivenUp, Refused, Retry, TaskFails, classify
from workers.stages.picture_check import PictureRefused

OURS = OSError("the disk is full")
CALLERS = FontMissing("There is no such font.")


@pytest.mark.parametrize("stage", ["postprocess", "upload", "notify", "enlarge"])
def test_our_faults_are_tried_again_after_growing_waits(stage: str, settings) -> None:
    settings.STAGE_MAX_ATTEMPTS = 9
    waits = [classify(named(stage), tries, OURS) for tries in range(1, 7)]
    reason = f"{stage}: OSError: the disk is full"
    assert waits == [Retry(seconds, reason) for seconds in (1, 5, 15, 60, 60, 60)]


def test_the_last_try_fails_the_task_or_warns_a_client_who_has_the_pictures(settings) -> None:
    settings.STAGE_MAX_ATTEMPTS = 2
    message = "upload failed 2 times; the last time: OSError: the disk is full"
    assert classify(named("upload"), 2, OURS) == TaskFails("upload_failed", message)
    assert classify(named("enlarge"), 2, OURS) == GivenUp("The larger version could not be made: the disk is full")
    assert isinstance(classify(named("notify"), 2, OURS), Retry), "a stored task cannot fail any more"


def test_a_request_that_can_never_work_is_not_tried_again() -> None:
    assert classify(named("postprocess"), 1, CALLERS) == TaskFails(CALLERS.code, str(CALLERS))
    assert isinstance(classify(named("enlarge"), 1, CALLERS), GivenUp)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ValueError("x"), KeyError("x"), TypeError("x")])
def test_what_the_data_itself_breaks_is_tried_twice(error: Exception) -> None:
    assert isinstance(classify(named("postprocess"), 1, error), Retry)
    failed = classify(named("postprocess"), 2, error)
    assert isinstance(failed, TaskFails)
    assert failed.code == "postprocess_failed"


def test_a_refused_picture_is_no_fault_to_be_repaired() -> None:
    refused = PictureRefused(0, "nudity")
    assert classify(named("postprocess"), 1, refused) == Refused(refused)
