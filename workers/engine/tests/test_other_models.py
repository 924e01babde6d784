"""Models that are no diffusers pipelines, in the same engine: object removal, and remote ones over HTTP."""

import base64
import io
import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from workers.engine import Engine, ModelPool, ModelSpec, ModelUnavailable, PoolConfig, Progress
from workers.engine.errors import RemoteModelError
from workers.engine.models import remote
from workers.engine.tests.driving import Run, run_to_end, sample, worst


class Painter(torch.nn.Module):
    """As LaMa is called: a picture and a mask in, a picture out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.layer(torch.cat([image * (1 - mask), mask], dim=1)))


@pytest.fixture
def painter(tmp_path):
    torch.manual_seed(1)
    network = Painter()
    torch.jit.save(torch.jit.script(network), str(tmp_path / "painter.pt"))
    return network, ModelSpec("lama", "1", "lama", str(tmp_path / "painter.pt"))


def engine_of(*specs):
    pool = ModelPool(PoolConfig(device="cpu"))
    for spec in specs:
        pool.ensure(spec)
    return Engine(pool)


def removal(number, width=60, height=44, kind="remove"):
    noise = np.random.default_rng(number)
    mask = np.zeros((height, width), np.uint8)
    mask[5:20, 10 + number : 30] = 255
    image = noise.integers(0, 256, (height, width, 3), np.uint8)
    return sample(model="lama@1", kind=kind, image=image, mask=mask, width=width, height=height)


def test_removal_paints_over_the_mask_only_and_shares_its_pass(painter):
    network, spec = painter
    engine = engine_of(spec)
    engine._pool.preload(["lama@1"])
    requests = [removal(number, kind=kind) for number, kind in enumerate(("remove", "inpaint", "remove"))]
    for request in requests:
        engine.admit(request)
    run = Run()
    run.take(engine.step())
    assert len(run.images) == 3, "one pass for all"
    for request in requests:
        image, mask = request.image / 255, (request.mask > 0)[:, :, None]
        padded = np.pad(image, ((0, 4), (0, 4), (0, 0)), mode="edge")
        padded_mask = np.pad(mask, ((0, 4), (0, 4), (0, 0)))
        as_tensor = [torch.tensor(part.transpose(2, 0, 1)[None], dtype=torch.float32) for part in (padded, padded_mask)]
        with torch.no_grad():
            expected = network(*as_tensor)[0].permute(1, 2, 0).numpy()[:44, :60] * mask + image * (1 - mask)
        assert worst(run.images[request.sample_id], expected) <= 1e-6


def test_a_missing_file_is_named(tmp_path):
    engine = engine_of(ModelSpec("lama", "1", "lama", str(tmp_path / "nothing.pt")))
    request = removal(0)
    error = run_to_end(engine, [request]).errors[request.sample_id]
    assert isinstance(error, ModelUnavailable)
    assert "nothing.pt" in str(error)


class ImagesApi(BaseHTTPRequestHandler):
    """A local server that speaks the Images API; `answers` holds what it is to say, `seen` what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers, body))
        self.server.hold.wait(10)
        status, answer = self.server.answer
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def picture_answer(size=(64, 64)):
    data = io.BytesIO()
    Image.new("RGB", size, (255, 0, 51)).save(data, "PNG")
    return 200, {"created": 1, "data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]}


@pytest.fixture
def api(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), ImagesApi)
    server.seen, server.answer, server.hold = [], picture_answer(), threading.Event()
    server.hold.set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("THEIR_KEY", "k123")
    options = {"model": "dall-e-3", "api_key_env": "THEIR_KEY", "sizes": ["64x64", "128x64"], "timeout_s": 5}
    server.spec = ModelSpec("dalle", "1", "remote-openai", f"http://127.0.0.1:{server.server_port}/v1", options=options)
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_remote_picture_is_asked_for_as_the_api_wants_it(api):
    request = sample(model="dalle@1", text="a cat", width=80, height=80, negative_text="dogs")
    run = run_to_end(engine_of(api.spec), [request])
    path, headers, body = api.seen[0]
    assert (path, headers["Authorization"]) == ("/v1/images/generations", "Bearer k123")
    wanted = {"prompt": "a cat", "n": 1, "size": "64x64", "model": "dall-e-3", "response_format": "b64_json"}
    assert json.loads(body) == wanted
    assert run.images[request.sample_id].shape == (80, 80, 3)
    assert np.allclose(run.images[request.sample_id], [1, 0, 0.2])
    assert len(run.events[-1].warnings) == 2


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"model": "dall-e-2"}, "b64_json"), ({"model": "gpt-image-1"}, None), ({"model": "gpt-image-1-mini"}, None),
        ({"model": "chatgpt-image-latest"}, None), ({"model": "flux", "response_format": "b64_json"}, "b64_json"),
        ({"model": "dall-e-3", "response_format": ""}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["text2img", "inpaint"])
def test_the_form_of_the_answer_is_only_asked_for_where_the_model_takes_the_field(api, options, sent, kind):
    picture, mask = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8)
    request = sample(model="dalle@1", kind=kind, image=picture, mask=mask)
    spec = replace(api.spec, options={"api_key_env": "THEIR_KEY", **options})
    assert request.sample_id in run_to_end(engine_of(spec), [request]).images
    (_, _, body) = api.seen[0]
    assert (b"response_format" in body, b"b64_json" in body) == (sent is not None, sent is not None)


def test_outside_the_mask_a_remote_edit_is_its_input(api):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:20] = 255
    request = sample(model="dalle@1", kind="inpaint", image=noise, mask=mask)
    picture = run_to_end(engine_of(api.spec), [request]).images[request.sample_id]
    assert np.array_equal(np.round(picture[20:] * 255), noise[20:])
    assert np.allclose(picture[:20], [1, 0, 0.2])


def test_an_answer_with_an_address_says_which_option_is_missing(api):
    api.answer = 200, {"data": [{"url": "https://example.com/picture.png"}]}
    request = sample(model="dalle@1")
    failed = run_to_end(engine_of(api.spec), [request]).events[-1]
    assert "response_format" in str(failed.error)
    assert failed.retryable is False


def test_an_answer_is_a_picture_of_the_usual_formats(api):
    """Pillow has EPS drawn by Ghostscript, where that is there."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "EPS")
    api.answer = 200, {"data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]}
    failed = run_to_end(engine_of(api.spec), [sample(model="dalle@1")]).events[-1]
    assert "something else than a picture" in str(failed.error)


def test_an_edit_sends_picture_and_mask(api):
    image, mask = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8)
    request = sample(model="dalle@1", kind="inpaint", image=image, mask=mask)
    assert request.sample_id in run_to_end(engine_of(api.spec), [request]).images
    path, headers, body = api.seen[0]
    assert path == "/v1/images/edits"
    assert headers["Content-Type"].startswith("multipart/form-data")
    assert body.count(b"Content-Type: image/png") == 2


def test_others_step_on_while_a_remote_model_thinks(api, mini_pool):
    api.hold.clear()
    mini_pool.ensure(api.spec)
    mini_pool.preload(["dalle@1"])
    engine = Engine(mini_pool)
    remote, here = sample(model="dalle@1"), sample(steps=4)
    engine.admit(remote)
    engine.admit(here)
    run = Run()
    while here.sample_id not in run.images:
        run.take(engine.step())
    assert run.progress(remote.sample_id) == []
    assert not any(isinstance(event, Progress) and event.sample_id == remote.sample_id for event in run.events)
    api.hold.set()
    assert remote.sample_id in run_to_end(engine).images


def intricate_picture() -> str:
    """A JPEG of 400,000 empty pieces, which would hold the worker's interpreter for seconds."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "JPEG")
    plain = written.getvalue()
    return base64.b64encode(plain[:2] + b"\xff\xfe\0\3x" * 400_000 + plain[2:]).decode()


@pytest.mark.parametrize(
    ("answer", "retryable", "said"),
    [
        ((400, {"error": {"message": "your prompt was refused"}}), False, "your prompt was refused"),
        ((429, {"error": {"message": "slow down"}}), True, "slow down"),
        ((503, {}), True, "503"),
        ((200, {"data": []}), True, "something else than a picture"),
        ((200, {"data": [{"b64_json": "AAAA"}]}), True, "something else than a picture"),
        ((200, {"data": [{"b64_json": intricate_picture()}]}), True, "more parts than a picture needs"),
    ],
)
def test_their_errors_are_told_and_sorted(api, answer, retryable, said):
    api.answer = answer
    request = sample(model="dalle@1")
    run = run_to_end(engine_of(api.spec), [request])
    failed = run.events[-1]
    assert isinstance(failed.error, RemoteModelError)
    assert said in str(failed.error)
    assert failed.retryable is retryable


def test_without_a_key_it_is_not_available(api, monkeypatch):
    monkeypatch.delenv("THEIR_KEY")
    request = sample(model="dalle@1")
    error = run_to_end(engine_of(api.spec), [request]).errors[request.sample_id]
    assert isinstance(error, ModelUnavailable)
    assert "THEIR_KEY" in str(error)


def test_a_remote_server_that_drips_is_given_up_at_the_deadline(hostile):
    options = {"timeout_s": 0.5}
    for path in ("head", "body", "silent"):
        spec = ModelSpec("dripping", "1", "remote-openai", f"{hostile.url}/{path}", options=options)
        request = sample(model="dripping@1")
        began = time.monotonic()
        error = run_to_end(engine_of(spec), [request]).errors[request.sample_id]
        assert isinstance(error, RemoteModelError)
        assert time.monotonic() - began < 3


def test_no_more_of_a_remote_answer_is_read_than_a_picture_can_have(hostile, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST_ANSWER", 1 << 20)
    spec = ModelSpec("endless", "1", "remote-openai", f"{hostile.url}/endless", options={"timeout_s": 20})
    request = sample(model="endless@1")
    assert "too large" in str(run_to_end(engine_of(spec), [request]).errors[request.sample_id])
