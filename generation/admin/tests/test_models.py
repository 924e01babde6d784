"""An operator adds a model: what is wrong is said at once, and what is right is tried before a customer asks."""

from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, ModelPreset
from generation.queue import model_memory
from generation.queue.model_memory import WorkerModels
from generation.tasks.models import Task

ADD = "/admin/generation/imagemodel/add/"
ROW: dict[str, Any] = {
    "name": "own", "title": "Own", "family": "sd15", "source": "mini", "revision": "1", "precision": "auto",
    "options": "{}", "kinds": ["text2img", "img2img"], "aliases": "[]", "min_side": 256, "max_side": 1024,
    "default_width": 256, "default_height": 256, "default_steps": 4, "max_steps": 20, "default_cfg_scale": 4,
    "default_sampler": "euler", "enabled": "on", "position": 5,
}  # fmt: skip


@pytest.fixture
def staff(owner: User) -> Client:
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    assert client.login(username="root", password="a long password")
    return client


def page(response: Any) -> str:
    return str(response.content.decode())


def test_a_new_model_is_tried_by_a_task_of_its_own(staff: Client) -> None:
    shown = page(staff.post(ADD, ROW, follow=True))
    model = ImageModel.objects.get(name="own")
    assert model.kinds == ["text2img", "img2img"]
    task = Task.objects.get(model=model)
    assert (task.user.username, task.kind, task.status, task.api_key) == ("root", "text2img", "queued", None)
    assert f"own is being tried by task {task.id}" in shown
    assert "not loaded yet" in page(staff.get("/admin/generation/imagemodel/"))


def test_the_list_says_what_became_of_the_trial(staff: Client) -> None:
    staff.post(ADD, ROW)
    model = ImageModel.objects.get(name="own")
    ImageModel.objects.filter(pk=model.pk).update(tried=model.fingerprint, problem="there is no unet in /srv/own")
    assert "failed: there is no unet in /srv/own" in page(staff.get("/admin/generation/imagemodel/"))
    ImageModel.objects.filter(pk=model.pk).update(problem="")
    assert ">loaded<" in page(staff.get("/admin/generation/imagemodel/")).replace("\n", "").replace(" ", "")


def test_only_a_change_of_what_is_loaded_is_tried_again(staff: Client) -> None:
    staff.post(ADD, ROW)
    model = ImageModel.objects.get(name="own")
    address = f"/admin/generation/imagemodel/{model.pk}/change/"
    staff.post(address, ROW | {"title": "Another title"})
    assert Task.objects.filter(model=model).count() == 1
    staff.post(address, ROW | {"revision": "2"})
    assert Task.objects.filter(model=model).count() == 2
    staff.post("/admin/generation/imagemodel/", {"action": "try_it", "_selected_action": [model.pk]})
    assert Task.objects.filter(model=model).count() == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "stable-diffusion"}, "Select a valid choice"),
        ({"kinds": ["txt2img"]}, "Select a valid choice"),
        ({"default_sampler": "DPM++ 2M Karras"}, "Select a valid choice"),
        ({"options": '{"speeed": true}'}, "There is no option &#x27;speeed&#x27; of sd15"),
        ({"source": "~/nowhere"}, "below MODELS_DIR"),
        ({"kinds": ["text2img", "inpaint"], "family": "lama", "source": "mini"}, "cannot do text2img"),
    ],
)
def test_a_row_that_would_break_at_a_customers_is_refused(staff: Client, changes: dict[str, Any], words: str) -> None:
    assert words in page(staff.post(ADD, ROW | changes))
    assert not ImageModel.objects.filter(name="own").exists()
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"prompt": "on pink"}, "Write {text}"), ({"tone": '{"saturations": 9}'}, "style.tone"),
     ({"tone": '{"curve": [[0, 0], [1, 2]]}'}, "style.tone")],
)  # fmt: skip
def test_a_style_that_would_not_work_is_refused(staff: Client, changes: dict[str, str], words: str) -> None:
    form = {"name": "own", "title": "Own", "prompt": "{text}, pink", "tone": "{}", "position": 1}
    assert words in page(staff.post("/admin/generation/style/add/", form | changes))
    assert staff.post("/admin/generation/style/add/", form).status_code == 302


def act(action: str, name: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": [ModelPreset.objects.get(name=name).pk]}


def test_presets_are_rows_that_an_operator_can_add_to(staff: Client) -> None:
    shown = page(staff.get("/admin/generation/modelpreset/?q=sdxl-turbo"))
    assert "6.9 GB" in shown
    assert "models pull sdxl-turbo" in shown
    staff.post("/admin/generation/modelpreset/", act("pull", "sdxl"))
    assert ModelPreset.objects.get(name="sdxl").pull_state == ""
    staff.post("/admin/generation/modelpreset/", act("pull_accepting", "sdxl"))
    assert ModelPreset.objects.get(name="sdxl").pull_state == "asked"
    assert "waits" in page(staff.get("/admin/generation/modelpreset/?q=sdxl"))
    form = {"name": "ours", "title": "Ours", "kind": "model", "repository": "acme/ours", "files": "[]", "hashes": "{}",
            "parameters": "{}", "bytes_per_weight": 2, "row": "{}"}  # fmt: skip
    assert staff.post("/admin/generation/modelpreset/add/", form).status_code == 302


@pytest.fixture(autouse=True)
def _afterwards() -> Any:
    yield
    snapshot.reload()


def test_memory_is_measured_or_computed_and_says_which(staff: Client) -> None:
    name = ModelPreset.objects.filter(kind="model", base="").exclude(parameters={}).values_list("name", flat=True)[0]
    measured = {"bf16": {"bytes": 3_200_000_000, "device": "cuda:0", "revision": "1", "at": ""}}
    facts = {"family": "sd15", "source": "mini", "kinds": ["text2img"]}
    model = ImageModel.objects.create(name=name, title="Own", measured_memory=measured, **facts)
    shown = page(staff.get(f"/admin/generation/imagemodel/{model.pk}/change/"))
    assert "bf16: 3.2 GB, measured on cuda:0;" in shown
    assert "computed" in shown
    ImageModel.objects.filter(pk=model.pk).update(revision="2")
    assert "of revision 1" in page(staff.get(f"/admin/generation/imagemodel/{model.pk}/change/"))
    mini = ImageModel.objects.get(name="mini")
    assert "not measured yet" in page(staff.get(f"/admin/generation/imagemodel/{mini.pk}/change/"))


def test_a_worker_is_asked_to_load_and_drop(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the message does there: workers/tests/test_celery_commands.py."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(model_memory.app.control, "broadcast", lambda *what, **how: asked.append((*what, how)))
    mini = ImageModel.objects.get(name="mini")
    model_memory.publish("gpu7-1", WorkerModels("gpu7@host", "cpu", {mini.key: (5_000_000, "fp32")}))
    try:
        shown = page(staff.get("/admin/generation/imagemodel/"))
        assert "gpu7@host (5.0 MB, fp32)" in shown
        assert "Drop from the memory of gpu7@host" in shown
        sent = {"action": "unload:gpu7@host", "_selected_action": [mini.pk]}
        assert "gpu7@host is asked to unload mini" in page(
            staff.post("/admin/generation/imagemodel/", sent, follow=True)
        )
    finally:
        model_memory.withdraw("gpu7-1")
    assert asked == [("model", {"arguments": {"action": "unload", "name": "mini"}, "destination": ["gpu7@host"]})]
    assert "gpu7" not in page(staff.get("/admin/generation/imagemodel/"))
