import hashlib
import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from postprocessing.decoding import decode
from postprocessing.formats import encode, srgb_profile
from postprocessing.metadata import Notes, parameters_text, too_long_for_jpeg
from postprocessing.pipeline import process, process_each, thumbnail
from postprocessing.recipe import FORMATS, Output, Recipe
from postprocessing.tests.pictures import psnr, scene

NOTES = Notes(
    prompt="a red cat, 一只红色的猫",
    negative_prompt="blurry",
    steps=20,
    sampler="DPM++ 2M",
    cfg_scale=7.5,
    seed=2**63 - 1,
    width=256,
    height=192,
    model="mini",
    extra={"Style": "cartoon", "Lora hashes": "a: 1, b: 2"},
)
TEXT = (
    "a red cat, 一只红色的猫\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 9223372036854775807, Size: 256x192, "
    'Model: mini, Style: cartoon, Lora hashes: "a: 1, b: 2", Version: ImageGenX'
)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_each_format_reads_back(form):
    picture = scene(192, 256)
    encoded = process([picture], Recipe.from_json({"format": form}), [NOTES])[0]
    assert (encoded.width, encoded.height, encoded.content_type) == (256, 192, f"image/{form}")
    assert encoded.sha256 == hashlib.sha256(encoded.data).hexdigest()
    with Image.open(io.BytesIO(encoded.data)) as file:
        assert file.format == form.upper()
        assert file.info["icc_profile"] == srgb_profile()
    assert psnr(decode(encoded.data), picture) > (98 if form == "png" else 27)
    assert process([picture], Recipe.from_json({"format": form}), [NOTES])[0].data == encoded.data


def test_lossless_webp_is_exact():
    picture = scene()
    assert (decode(encode(picture, Output("webp", lossless=True)).data) == picture).all()


def test_quality_decides_the_size():
    picture = scene()
    for form in ("webp", "avif", "jpeg"):
        sizes = [len(encode(picture, Output(form, quality)).data) for quality in (20, 60, 95)]
        assert sizes == sorted(sizes)


def test_noise_in_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert decode(encode(noise, Output("jpeg", 90)).data).shape == noise.shape


def test_the_parameters_text():
    assert parameters_text(NOTES) == TEXT


def written(form: str, level: str) -> tuple[dict, Image.Exif]:
    encoded = process([scene(192, 256)], Recipe.from_json({"format": form, "metadata": level}), [NOTES])[0]
    with Image.open(io.BytesIO(encoded.data)) as file:
        file.load()
        return dict(file.info), file.getexif()


@pytest.mark.parametrize("form", FORMATS)
def test_full_metadata(form):
    info, exif = written(form, "full")
    packet = info["xmp"]
    assert b'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"' in packet
    if form == "png":
        assert info["parameters"] == TEXT
    else:
        comment = exif.get_ifd(0x8769)[0x9286]
        assert comment[:8] == b"UNICODE\0"
        assert comment[8:].decode("utf-16-be") == TEXT


def test_the_exif_comment_has_the_type_undefined():
    encoded = process([scene(192, 256)], Recipe.from_json({"format": "jpeg"}), [NOTES])[0]
    assert b"\x92\x86\x00\x07" in encoded.data  # UserComment, UNDEFINED


def comment(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as file:
        if file.format == "PNG":
            return file.info["parameters"]
        return file.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("prompt", "negative"), [("😀" * 10_000, "😀" * 10_000), ("a", "猫" * 40_000), ("a猫😀" * 20_000, ""), ("a", "b")]
)
def test_prompts_of_any_length_make_a_file_and_what_a_jpeg_cannot_hold_is_cut_off_visibly(form, prompt, negative):
    notes = replace(NOTES, prompt=prompt, negative_prompt=negative)
    (encoded,) = process([scene(64, 64)], Recipe.from_json({"format": form}), [notes])
    read = comment(encoded.data)
    assert read.endswith(TEXT.partition("blurry")[2])
    if form != "jpeg" or not too_long_for_jpeg(prompt, negative):
        assert read == parameters_text(notes)
        return
    first, _, second = read.rpartition("\nSteps")[0].partition("\nNegative prompt: ")
    for kept, whole in ((first, prompt), (second, negative)):
        assert kept == whole or (kept.endswith("…") and whole.startswith(kept[:-1]) and len(kept) > 1000)
    assert len(read.encode("utf-16-be")) > 59_000


@pytest.mark.parametrize("form", FORMATS)
def test_minimal_metadata_has_only_the_source_type(form):
    info, exif = written(form, "minimal")
    assert b"trainedAlgorithmicMedia" in info["xmp"]
    assert "parameters" not in info
    assert not exif


@pytest.mark.parametrize("form", FORMATS)
def test_no_metadata(form):
    info, exif = written(form, "none")
    assert not exif
    assert not {"xmp", "icc_profile", "parameters", "exif"} & set(info)


def test_edited_pictures_have_another_source_type():
    encoded = process([scene()], Recipe(), [Notes("x", edited=True)])[0]
    assert b"compositeWithTrainedAlgorithmicMedia" in encoded.data


def test_thumbnails():
    for height, width, expected in [(1000, 500, (128, 256)), (100, 50, (50, 100)), (4000, 3, (1, 256))]:
        small = thumbnail(scene(height, width))
        assert (small.width, small.height) == expected
        assert small.content_type == "image/webp"


def test_thumbnails_show_the_processed_picture():
    """A customer's watermark must not be missing from the small picture."""
    recipe = Recipe.from_json({"watermark": {"kind": "qr", "text": "mine", "scale": 1.0, "position": "center"}})
    (finished,) = process_each([scene(512, 512)], recipe, [NOTES])
    assert finished.original == process([scene(512, 512)], recipe, [NOTES])[0]
    assert (finished.thumbnail.width, finished.thumbnail.height) == (256, 256)
    assert cv2.QRCodeDetector().detectAndDecode(decode(finished.thumbnail.data))[0] == "mine"


def test_transparent_and_16_bit_files_are_decoded():
    buffer = io.BytesIO()
    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue())[0, 0].tolist() == [255, 255, 255]
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3), 32768, np.uint16)).save(buffer, "PNG")
    assert decode(buffer.getvalue())[0, 0].tolist() == [128, 128, 128]
    with pytest.raises(ValueError):
        decode(b"GIF89a" + bytes(100))


def test_each_picture_has_its_own_notes():
    with pytest.raises(ValueError):
        process([scene(), scene()], Recipe(), [NOTES])
