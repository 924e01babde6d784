"""A row that no worker could load is refused when it is saved, in words that say what is right."""

import pytest
from django.core.exceptions import ValidationError

from generation.accounts.models import Plan, Team
from generation.catalogue import model_rules, snapshot
from generation.catalogue.models import ImageModel, Style
from workers.engine.models.families import FAMILIES
from workers.engine.models.registry import MODEL_CLASSES
from workers.engine.runtimes.measured_choice import RUNTIMES


def row(**changes):
    values = {"name": "own", "title": "Own", "family": "sd15", "source": "mini", "kinds": ["text2img"]}
    return ImageModel(**{**values, **changes})


def refusal(**changes):
    with pytest.raises(ValidationError) as refused:
        row(**changes).clean()
    [(field, messages)] = refused.value.message_dict.items()
    return field, " ".join(messages)


def test_families_and_runtimes_are_those_of_the_engine():
    assert set(model_rules.FAMILIES) == set(MODEL_CLASSES)
    for name, family in FAMILIES.items():
        able = {"controlnet" if kind.startswith("controlnet") else kind for kind in family.pipelines or {"text2img"}}
        assert set(model_rules.FAMILIES[name]) == able
    assert model_rules.RUNTIMES == RUNTIMES


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"family": "stable-diffusion"}, "family", "Known: sd15"),
        ({"kinds": ["txt2img"]}, "kinds", "cannot do txt2img. They can do text2img"),
        ({"kinds": []}, "kinds", "at least one"),
        ({"default_sampler": "DPM++ 2M Karras"}, "default_sampler", "Known: auto"),
        ({"options": {"speeed": True}}, "options", "no option 'speeed'"),
        ({"options": {"speed": {"offlode": True}}}, "options", "no speed setting 'offlode'"),
        ({"options": {"speed": True}}, "options", "speed is an object"),
        ({"options": {"runtime": "tensorflow"}}, "options", "no runtime 'tensorflow'. Known: auto"),
        ({"options": {"runtime": 3}}, "options", "runtime is a text"),
        ({"options": []}, "options", "are an object"),
        ({"source": "~/nowhere"}, "source", "MODELS_DIR"),
        ({"source": "stabilityai/stable-diffusion-xl-base-1.0"}, "source", "manage.py models presets"),
        ({"source": "https://example.com/x.safetensors"}, "source", "Only remote models have an address"),
        ({"source": "juggernaut.safetensors"}, "source", "manage.py models import juggernaut.safetensors"),
        ({"source": "no-such-folder"}, "source", "nothing at no-such-folder"),
        ({"family": "remote-openai", "source": "mini"}, "source", "has an address"),
        ({"default_width": 500}, "default_width", "multiples of 8"),
        ({"default_width": 2048}, "default_width", "not between"),
    ],
)
def test_what_a_worker_could_not_load_is_refused_at_its_field(changes, field, words):
    found, message = refusal(**changes)
    assert found == field
    assert words in message


def test_a_row_that_is_right_is_taken():
    row().clean()
    options = {"speed": {"offload": True, "attention": "sdpa"}, "controlnets": {"canny": "../controlnet-canny"}}
    row(options=options, kinds=["text2img", "controlnet"]).clean()


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"prompt": "on a pink background"}, "prompt"), ({"tone": {"saturations": 9}}, "tone"),
     ({"tone": {"curve": [[0, 0], [1, 2]]}}, "tone")],
)  # fmt: skip
def test_a_style_whose_words_or_tone_would_not_work_is_refused(changes, field):
    style = Style(**{"name": "own", "title": "Own", "prompt": "{text}, pink", **changes})
    with pytest.raises(ValidationError) as refused:
        style.clean()
    assert list(refused.value.message_dict) == [field]


@pytest.fixture
def two_models(db):
    ImageModel.objects.all().delete()
    models = [row(name=name, position=place) for place, name in enumerate(("first", "second"))]
    for model in models:
        model.save()
    snapshot.reload()
    yield models
    snapshot.reload()


def mark(model, problem=""):
    ImageModel.objects.filter(pk=model.pk).update(tried=model.fingerprint, problem=problem)
    snapshot.reload()


def default():
    return snapshot.current().default_model("text2img").name


def test_a_broken_model_at_the_top_is_not_the_default(two_models):
    first, second = two_models
    assert default() == "first"  # nobody has tried any
    mark(first, "no such folder")
    assert default() == "second"
    mark(second)
    assert default() == "second"
    mark(first)
    assert default() == "first"


def test_a_new_model_at_the_top_becomes_the_default_when_a_worker_has_loaded_it(two_models):
    first, second = two_models
    mark(second)
    assert default() == "second"
    mark(first)
    assert default() == "first"


def test_a_change_of_what_is_loaded_makes_a_model_untried_again(two_models):
    first, _ = two_models
    mark(first)
    first.refresh_from_db()
    assert first.loads is True
    first.options = {"speed": {"offload": True}}
    assert first.loads is None


def test_a_model_that_is_kept_for_a_plan_or_a_team_is_named_by_those_alone(two_models):
    first, second = two_models
    paid, free = Plan.objects.create(name="p1", title="p"), Plan.objects.create(name="f1", title="f")
    team = Team.objects.create(name="studio", plan=free)
    first.plans.add(paid)
    first.teams.add(team)
    snapshot.reload()
    names = [
        [model.name for model in snapshot.current().usable_by(plan, team_id).models]
        for plan, team_id in ((paid, None), (free, team.pk), (free, None))
    ]
    assert names == [["first", "second"], ["first", "second"], ["second"]]
    assert snapshot.current().usable_by(free, None).default_model("text2img") == second
