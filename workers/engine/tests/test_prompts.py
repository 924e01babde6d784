"""Long, weighted, Chinese and repeated prompts."""

import threading
import time

import diffusers
import numpy as np
import pytest
import torch

from workers.engine import ModelSpec
from workers.engine.models.embedding_cache import EmbeddingCache
from workers.engine.prompt_weights import Piece, is_plain, parse
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import Run, run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import engine_for

LONG = ", ".join(
    f"a {colour} {thing}" for colour in ("red", "blue", "green", "black") for thing in ("cat", "tree", "star") * 4
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save_stable_diffusion(folder / "sd15", with_controlnet=False)
    tiny_models.save_sdxl(folder / "sdxl")
    tiny_models.save_sd3(folder / "sd3")
    return folder


def engine_and_model(folders, family):
    engine = engine_for(ModelSpec("m", "1", family, str(folders / family)))
    return engine, engine._pool.get("m@1")


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (red:1.3) cat", [("a ", 1.0), ("red", 1.3), (" cat", 1.0)]),
        ("((red)) [cat]", [("red", 1.21), (" ", 1.0), ("cat", 1 / 1.1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        (r"\(not weighted\)", [("(not weighted)", 1.0)]),
        ("open (end", [("open ", 1.0), ("end", 1.1)]),
        ("a:) b", [("a:) b", 1.0)]),
        ("(一只猫:1.5)在草地上", [("一只猫", 1.5), ("在草地上", 1.0)]),
        ("", []),
    ],
)
def test_weights_are_read(prompt, pieces):
    found = parse(prompt)
    assert [piece.text for piece in found] == [text for text, _ in pieces]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in pieces])
    assert is_plain(found) == (all(weight == 1.0 for _, weight in pieces))


def test_neighbours_of_one_weight_are_one_piece():
    assert parse("(a:2)(b:2)") == (Piece("ab", 2.0),)


@pytest.mark.parametrize(
    ("prompt", "weight"),
    [
        ("(a:" + "9" * 400 + ")", 10.0),
        ("(a:-" + "9" * 9000 + ")", -10.0),
        ("(" * 9999 + "a", 10.0),
        ("((a:9):9)", 10.0),
        ("(a:1e9)", 1.1),  # no number that a weight may be: text in brackets
        ("(a:0)", 0.0),
    ],
)
def test_a_weight_is_a_number_from_minus_ten_to_ten(prompt, weight):
    assert parse(prompt)[0].weight == pytest.approx(weight)


def test_square_brackets_without_end_leave_a_weight_that_is_a_number():
    assert 0 < parse("[" * 9999 + "a")[0].weight < 1e-6


def test_brackets_of_both_sorts_may_cross():
    assert [(piece.text, round(piece.weight, 3)) for piece in parse("(a [b) c]")] == [
        ("a ", 1.1), ("b", 1.0), (" c", 0.909),
    ]  # fmt: skip


NASTY = (
    "(a", "[a", "([a", "(", "[", ")", "]", "(a)b", "[(a:1.2)b]", ":1", ":1.", ": ", "(:1", ":", "1", "\\(", "\\", '"',
    "'", "<", "(a:1.1.1)", "(a:", "{a", "}", "（a", "【", "“", "😀(",
)  # fmt: skip


def seconds_to_read(prompt):
    """CPU seconds of this thread, the least of a few tries."""
    taken = []
    for _ in range(3):
        parse.cache_clear()
        started = time.thread_time()
        parse(prompt)
        taken.append(time.thread_time() - started)
    return min(taken)


@pytest.mark.parametrize("sign", NASTY)
def test_four_times_the_length_takes_no_more_than_about_four_times_the_time(sign):
    for prefix in ("", "(" * 500, ":"):
        short, long = ((prefix + sign * length)[:length] for length in (2_500, 10_000))
        assert seconds_to_read(long) < 9 * seconds_to_read(short) + 0.002  # 16 times if it grew with the square


def test_others_step_on_while_a_long_prompt_is_read(folders, monkeypatch):
    engine, _ = engine_and_model(folders, "sd15")
    may_go_on, threads = threading.Event(), set()

    def slow(prompt):
        threads.add(threading.current_thread().name)
        assert may_go_on.wait(60)
        return parse(prompt)

    monkeypatch.setattr(
        "workers.engine.models.prompt_tokens.parse", lambda text: slow(text) if "(" in text else parse(text)
    )
    long, plain = sample(model="m@1", text="(a" * 2500), sample(model="m@1")
    for request in (long, plain):
        engine.admit(request)
    run = Run()
    while plain.sample_id not in run.images:
        run.take(engine.step())
    assert run.progress(long.sample_id) == []
    may_go_on.set()
    run.take(run_to_end(engine).events)
    assert long.sample_id in run.images
    assert all(name.startswith("prompt-reader") for name in threads)


@pytest.mark.parametrize("text", ["(a red cat:999)", "(a red cat:-999)", "(a red cat:0)", "(a:10)(b:-10)" * 20])
def test_whatever_a_prompt_weighs_its_picture_is_finite(folders, text):
    engine, _ = engine_and_model(folders, "sd15")
    request = sample(model="m@1", text=text, negative_text=text)
    picture = run_to_end(engine, [request]).images[request.sample_id]
    assert np.isfinite(picture).all()


@pytest.mark.parametrize(("family", "name"), [("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_chunks_of_a_short_prompt_are_the_stock_encoding(folders, family, name):
    """The chunked way and the stock way meet where both can go."""
    _, model = engine_and_model(folders, family)
    names = ["tokenizer", "tokenizer_2"][: 1 + (family == "sdxl")]
    read = [model.prompts._reader.read(text, names) for text in ("a red cat", "blurry")]
    chunked = model.prompts._embeddings(*read, zeros=False)
    pipeline = Stock(folders / family, name=name).loaded
    stock = pipeline.encode_prompt("a red cat", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True,
                                   negative_prompt="blurry")  # fmt: skip
    for ours, theirs in zip(chunked.values(), stock, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_words_beyond_77_tokens_count_and_share_their_steps(folders, family):
    engine, _ = engine_and_model(folders, family)
    other_end = LONG.removesuffix("star") + "moon"
    requests = [sample(model="m@1", text=prompt, seed=3) for prompt in (LONG, other_end, LONG, "a short one")]
    run = run_to_end(engine, requests)
    images = [run.images[request.sample_id] for request in requests]
    assert run.errors == {}
    assert worst(images[0], images[1]) > 1e-4
    assert worst(images[0], images[2]) < 1e-5
    assert all(event.warnings == () for event in run.events if hasattr(event, "warnings"))


def test_a_long_negative_prompt_meets_a_short_positive_one(folders):
    engine, _ = engine_and_model(folders, "sdxl")
    request = sample(model="m@1", negative_text=LONG)
    assert run_to_end(engine, [request]).errors == {}


def test_weights_change_the_picture_and_one_does_not(folders):
    engine, _ = engine_and_model(folders, "sd15")
    requests = [
        sample(model="m@1", text=prompt, seed=3) for prompt in ("a red cat", "a (red:1.0) cat", "a (red:1.6) cat")
    ]
    run = run_to_end(engine, requests)
    plain, one, more = (run.images[request.sample_id] for request in requests)
    assert worst(plain, one) < 1e-5
    assert worst(plain, more) > 1e-3


def test_a_family_that_reads_no_further_says_so(folders):
    engine, _ = engine_and_model(folders, "sd3")
    request = sample(model="m@1", text="word " * 80, sampler="euler")
    finished = run_to_end(engine, [request]).events[-1]
    assert any("tokens" in warning and "256" in warning for warning in finished.warnings)
    assert any("schedule of its own" in warning for warning in finished.warnings)


def warned(folder, family, prompt, negative=""):
    engine = engine_for(ModelSpec("m", "1", family, str(folder)))
    request = sample(model="m@1", text=prompt, negative_text=negative, sampler="auto", steps=1)
    run = run_to_end(engine, [request])
    assert run.errors == {}
    return run.events[-1].warnings


def test_without_the_large_encoder_what_clip_cuts_is_said(folders, tmp_path):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders / "sd3", text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(tmp_path)
    (warning,) = warned(tmp_path, "sd3", "cat " * 80)
    assert "82 tokens, of which model m reads 77" in warning
    assert warned(tmp_path, "sd3", "cat " * 70) == ()


def test_the_words_of_a_chat_template_count(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_models, "CHAT", "0123456789" + tiny_models.CHAT)
    tiny_models.save_z_image(tmp_path)
    (warning,) = warned(tmp_path, "z-image", "x" * 505)
    assert "515 tokens, of which model m reads 512" in warning
    assert warned(tmp_path, "z-image", "x" * 502) == ()


def test_a_negative_prompt_of_which_nothing_is_made_is_said(tmp_path):
    tiny_models.save_flux(tmp_path)
    (warning,) = warned(tmp_path, "flux", "a cat", negative="blurry")
    assert "negative prompt" in warning


def test_one_prompt_is_encoded_once(folders):
    engine, model = engine_and_model(folders, "sd15")
    run_to_end(engine, [sample(model="m@1", seed=seed, text="a cat") for seed in range(4)])
    assert (model.prompts.cache.hits, model.prompts.cache.misses) == (3, 1)
    run_to_end(
        engine,
        [sample(model="m@1", text="a dog"), sample(model="m@1", text=LONG), sample(model="m@1", text=LONG)],
    )
    assert (model.prompts.cache.hits, model.prompts.cache.misses) == (4, 3)


def test_the_cache_is_bounded_by_bytes():
    cache = EmbeddingCache(limit=2000)
    for number in range(10):
        cache.get(number, lambda: (torch.zeros(100), None))
    assert cache.memory_bytes == 2000
    assert cache.get(9, lambda: pytest.fail("kept")) is not None
    cache.get(0, lambda: torch.zeros(100))
    assert (cache.hits, cache.misses) == (1, 11)


def test_previews_come_as_often_as_asked(folders):
    engine, _ = engine_and_model(folders, "sd15")
    request = sample(model="m@1", steps=5, preview_every=2, width=320, height=256)
    run = run_to_end(engine, [request])
    previews = [event.preview for event in run.events if hasattr(event, "preview")]
    assert [preview is not None for preview in previews] == [False, True, False, True, False]
    assert previews[1].dtype == np.uint8
    assert max(previews[1].shape) == 256
