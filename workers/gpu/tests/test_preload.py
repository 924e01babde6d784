"""What a worker loads at its start."""

import pytest

from fixtures.fleet import submit
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel
from workers.gpu import preload


@pytest.fixture
def often_used(user, settings):
    """`mini-turbo` more often than `mini`; one that failed most of all."""
    settings.GPU_PRELOAD = ["auto"]
    broken = ImageModel.objects.create(name="broken", title="b", family="sd15", source="x", kinds=["text2img"])
    ImageModel.objects.filter(pk=broken.pk).update(tried=broken.fingerprint, problem="gone")
    for model, count in (("mini", 1), ("mini-turbo", 2), ("broken", 3)):
        submit(user, model=model, count=count)
    snapshot.reload()
    yield
    snapshot.reload()


def names():
    return [model.name for model in preload.wanted_models()]


def test_the_most_used_models_are_loaded_first_and_broken_ones_never(often_used):
    assert names() == ["mini-turbo", "mini"]


def test_a_worker_preloads_only_what_it_serves(often_used, settings):
    settings.GPU_MODELS = ["mini"]
    assert names() == ["mini"]


def test_without_tasks_it_is_the_default_and_named_models_are_as_they_are_named(user, settings):
    settings.GPU_PRELOAD = ["auto"]
    assert names() == [snapshot.current().default_model("text2img").name]
    settings.GPU_PRELOAD = ["mini-turbo"]
    assert names() == ["mini-turbo"]
