"""One table of kinds (generation/catalogue/kinds.py): every place that names kinds is made of it, and a new entry is
all that a kind needs outside of the engine.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import reverse

from fixtures.rows import picture_bytes
from generation.accounts.models import ApiKey, Plan, User
from generation.api.history import FiltersSerializer
from generation.api.tasks import submit_view
from generation.catalogue import kinds, snapshot
from generation.catalogue.kinds import CONTROL_TYPES, KINDS, MASK_FEATHER, STRENGTH, Kind, Option, Picture
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.policy.models import PolicyRefusal
from generation.tasks.models import Task
from imagegenx_site.schema import Number
from workers.engine.models.families import FAMILIES
from workers.gpu.samples import samples_of

QUOTED = ('"text2img"', '"img2img"', '"inpaint"', '"controlnet"')
OTHER_WORDS = (
    "workers/engine/",
    "generation/compat/a1111/",
    "generation/compat/horde/",
)  # pipelines; the words of their APIs
REPAINT = Kind(
    name="repaint",
    path="repaint",
    summary="Draw a picture anew",
    description="A picture and what of it stays.",
    pictures=(Picture("picture", "image"), Picture("keep", "mask", required=False, part_of="picture")),
    options=(STRENGTH, MASK_FEATHER, Option("guide", Number(0, 1), stored="control_scale")),
    engine_kinds=((frozenset({"mask"}), "inpaint"), (frozenset({"image"}), "img2img")),
)


def test_only_the_table_and_the_engine_name_kinds() -> None:
    root = Path(django_settings.BASE_DIR)
    rooms = ("generation", "imagegenx_site", "workers", "storage", "postprocessing")
    files = [file for room in rooms for file in (root / room).rglob("*.py")]
    product = [file for file in files if not {"tests", "migrations"} & set(file.parts)]
    naming = {str(file.relative_to(root)) for file in product if any(word in file.read_text() for word in QUOTED)}
    assert {name for name in naming if not name.startswith(OTHER_WORDS)} == {"generation/catalogue/kinds.py"}


def test_every_kind_has_its_endpoint_and_example(db: None) -> None:
    answer = Client().get("/api/schema", headers={"accept": "application/vnd.oai.openapi+json"})
    document = json.loads(answer.content)
    for kind in KINDS.values():
        operation = document["paths"][reverse(kind.path)]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        assert [example["value"] for example in content["examples"].values()] == [kind.example, kind.printed]
        form = document["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]
        assert kind.roles.keys() <= form["properties"].keys()
        params = document["components"]["schemas"][form["properties"]["params"]["$ref"].rsplit("/", 1)[1]]
        assert {option.name for option in kind.options} <= params["properties"].keys()


def test_plans_history_and_admin_offer_the_kinds_of_the_table(db: None) -> None:
    assert Plan().kinds == list(KINDS)
    filters: Any = FiltersSerializer()
    assert list(filters.fields["kind"].choices) == kinds.task_kinds()
    for model in (Task, PolicyRefusal):
        site: Any = admin.site._registry[model]
        (kind_filter,) = [one for one in site.list_filter if getattr(one, "parameter_name", "") == "kind"]
        request = RequestFactory().get("/")
        offered = kind_filter(request, {}, model, site).lookup_choices
        assert [value for value, _ in offered] == kinds.task_kinds()


def test_the_engine_knows_every_word_and_tasks_keep_every_parameter() -> None:
    words = {word for kind in KINDS.values() for _, word in kind.engine_kinds} | set(kinds.model_kinds())
    assert set(kinds.task_kinds()) - set(kinds.model_kinds()) == {"upscale", "background"}
    assert words <= {word for family in FAMILIES.values() for word in family.pipelines}
    stored = {name for kind in KINDS.values() for name in kind.stored}
    keys = {f"{role}_key" for role in kinds.ROLES}
    assert stored | keys <= Parameters.__dataclass_fields__.keys()


def test_a_kind_is_found_by_the_pictures_that_it_needs() -> None:
    found = [kinds.of_pictures(roles).name for roles in ((), ("image",), ("image", "mask"), ("control",))]
    assert found == ["text2img", "img2img", "inpaint", "controlnet"]
    assert CONTROL_TYPES[0] == "canny", "what edges are drawn for from any photo"


@pytest.fixture
def key(owner: User, able_model: ImageModel, monkeypatch: pytest.MonkeyPatch) -> ApiKey:
    """A key, in a product that has one kind more."""
    monkeypatch.setitem(KINDS, REPAINT.name, REPAINT)
    Plan.objects.update(kinds=list(KINDS))
    ImageModel.objects.filter(pk=able_model.pk).update(kinds=[*able_model.kinds, REPAINT.name])
    snapshot.reload()
    return ApiKey.objects.select_related("user__team__plan").get(pk=ApiKey.make(owner)[0].pk)


@pytest.fixture
def ask(key: ApiKey) -> Callable[[dict[str, Any]], Any]:
    secret = "igx_{}_{}"
    row, text = ApiKey.make(key.user)
    assert text.startswith(secret.format(row.prefix, ""))

    def post(body: dict[str, Any]) -> Any:
        headers = {"authorization": f"Bearer {text}"}
        path = f"/api/v1/image/{REPAINT.path}"
        request = RequestFactory().post(path, json.dumps(body), content_type="application/json", headers=headers)
        answer = submit_view(REPAINT).as_view()(request)
        return answer.status_code, json.loads(answer.render().content)["data"]

    return post


@pytest.mark.django_db
def test_an_entry_is_all_that_a_new_kind_needs(ask: Any) -> None:
    picture = base64.b64encode(picture_bytes((256, 256))).decode()
    status, data = ask({"text": "x", "picture": picture, "params": {"strength": 0.5, "guide": 0.25}})
    assert (status, data["kind"], data["input"]["strength"], data["input"]["control_scale"]) == (
        202,
        "repaint",
        0.5,
        0.25,
    )
    assert [sample.kind for sample in samples_of(Task.objects.get(), alone=False)] == ["img2img"]


@pytest.mark.django_db
def test_its_faults_are_named_as_those_of_any_kind(ask: Any) -> None:
    status, data = ask({"text": "x", "params": {"guide": 2, "area": [0, 0, 1, 1]}})
    assert status == 400
    assert {fault["field"]: fault["code"] for fault in data["errors"]} == {
        "picture": "required",
        "params.guide": "out_of_range",
        "params.area": "unknown_field",
    }


@pytest.mark.django_db
def test_a_format_beside_the_block_counts_for_every_kind(
    client_of: Callable[..., Client], owner: User, able_model: ImageModel
) -> None:
    picture = base64.b64encode(picture_bytes((256, 256))).decode()
    for kind in KINDS.values():
        pictures = {one.field: picture for one in kind.pictures if one.required}
        text = {"texts": ["x"]} if kind.many_texts else {"text": "x"} if kind.needs_model else {}
        model = {"model": "able"} if kind.needs_model else {}
        body = {**text, **pictures, "params": {"format": "png", **model}}
        address = f"/api/v1/image/{kind.path}"
        assert client_of(owner).post(address, json.dumps(body), content_type="application/json").status_code == 202
    assert [task.params["postprocess"]["format"] for task in Task.objects.all()] == ["png"] * len(KINDS)
