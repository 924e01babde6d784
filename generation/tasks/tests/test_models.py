"""What a row says about its task, parsed: always of the row as it is now."""

from collections.abc import Callable
from dataclasses import replace

from generation.tasks.models import Task

MakeTask = Callable[..., Task]
MARK = {"kind": "text", "text": "shop"}


def test_parameters_are_parsed_once(make_task: MakeTask) -> None:
    task = make_task()
    assert task.parameters is task.parameters
    assert task.recipe is task.recipe
    assert (task.parameters.steps, task.parameters.num_images) == (4, 1)


def test_a_row_that_changed_is_parsed_anew(make_task: MakeTask) -> None:
    task = make_task()
    assert (task.parameters.text, task.recipe.output.format) == ("red circle", "webp")
    changed = {**task.params, "text": "", "postprocess": {"format": "png"}}
    Task.objects.filter(pk=task.pk).update(params=changed)
    assert task.parameters.text == "red circle", "until it is read again"
    task.refresh_from_db()
    assert (task.parameters.text, task.recipe.output.format) == ("", "png")
    Task.objects.filter(pk=task.pk).update(params={**changed, "text": "blue"})
    assert Task.objects.get(pk=task.pk).parameters.text == "blue"
    task.params = {**changed, "steps": 9}
    assert task.parameters.steps == 9


def test_the_recipe_has_the_styles_tone_and_the_plans_mark(make_task: MakeTask) -> None:
    task = make_task()
    task.params = {**task.params, "style_tone": {"saturation": 1.5}, "plan_watermark": MARK}
    assert task.recipe.tone.saturation == 1.5
    assert [getattr(mark, "text", "") for mark in task.recipe.watermarks] == ["shop"]
    task.params = {**task.params, "postprocess": {"saturation": 1.0, "watermark": {"kind": "text", "text": "mine"}}}
    assert task.recipe.tone.saturation == 1.0, "the request's own block goes before the style"
    assert [getattr(mark, "text", "") for mark in task.recipe.watermarks] == ["mine", "shop"]


def test_parameters_that_are_assigned_are_those_of_the_row(make_task: MakeTask) -> None:
    task = make_task()
    given = replace(task.parameters, steps=7)
    task.parameters = given
    assert task.parameters is given
    task.save(update_fields=["params"])
    assert Task.objects.get(pk=task.pk).parameters == given
