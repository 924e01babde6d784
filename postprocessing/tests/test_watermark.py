import base64
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from postprocessing.decoding import decode
from postprocessing.errors import FontMissing, MarkTooLarge
from postprocessing.fonts import SHIPPED, FontFile, find_font, is_installed, missing_characters
from postprocessing.pipeline import process
from postprocessing.recipe import Recipe, RecipeError
from postprocessing.tests.pictures import scene
from postprocessing.watermark import apply_watermarks
from postprocessing.watermark_form import POSITIONS
from postprocessing.watermark_text import set_text


def marked(picture: np.ndarray, *marks: dict) -> np.ndarray:
    return apply_watermarks(picture, Recipe.from_json({"watermark": list(marks)}).watermarks)


def grey(height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def logo(alpha: int = 255) -> str:
    """A red square, transparent outside its middle, as base64."""
    image = np.zeros((40, 40, 4), np.uint8)
    image[10:30, 10:30] = (255, 0, 0, alpha)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def touched(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float, float]:
    """Box of the changed pixels: left, top, right, bottom as parts of the sides."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    height, width = before.shape[:2]
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


@pytest.mark.parametrize("position", POSITIONS)
def test_nine_positions(position):
    picture = grey()
    offset = [0.05, 0.1]
    box = touched(
        picture, marked(picture, {"kind": "text", "text": "ImageGenX", "position": position, "offset": offset})
    )
    for low, high, start, end, gap in [("left", "right", box[0], box[2], 0.05), ("top", "bottom", box[1], box[3], 0.1)]:
        if low in position:
            assert start == pytest.approx(gap, abs=0.02)
        elif high in position:
            assert end == pytest.approx(1 - gap, abs=0.02)
        else:
            assert (start + end) / 2 == pytest.approx(0.5, abs=0.02)


def test_opacity_mixes_and_colour_is_rgb():
    picture = np.zeros((200, 200, 3), np.uint8)
    for opacity in (0.25, 1.0):
        done = marked(picture, {"kind": "text", "text": "█", "size": 0.3, "color": "#FF8000", "opacity": opacity,
                                "position": "center"})  # fmt: skip
        assert np.abs(done.max(axis=(0, 1)).astype(int) - np.array([255, 128, 0]) * opacity).max() <= 2


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_words_are_seen_on_any_ground_though_nothing_but_them_was_asked_for(ground):
    picture = np.full((512, 512, 3), ground, np.uint8)
    difference = np.abs(marked(picture, {"kind": "text", "text": "Shop 商店"}).astype(int) - ground).max(axis=2)
    assert (difference > 60).sum() > 100


def test_an_outline_surrounds_the_letters():
    picture = grey()
    mark = {"kind": "text", "text": "猫", "size": 0.4, "opacity": 1, "position": "center", "outline": 0.1,
            "outline_color": "#0000FF"}  # fmt: skip
    done = marked(picture, mark)
    white, blue = (done == 255).all(axis=2), (done == (0, 0, 255)).all(axis=2)
    assert white.sum() > 500
    assert blue.sum() > 500
    around = cv2.dilate(white.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert not (around & (done == 128).all(axis=2)).any()  # the letters nowhere touch the ground


def test_tiles_cover_the_whole_picture():
    picture = grey(600, 800)
    done = marked(picture, {"kind": "text", "text": "样图", "tile": True, "rotation": 30, "size": 0.06})
    changed = (done != picture).any(axis=2)
    for rows in np.array_split(changed, 3):
        for block in np.array_split(rows, 3, axis=1):
            assert 0.01 < block.mean() < 0.5


def test_rotation_turns_anticlockwise():
    picture = grey(400, 400)
    done = marked(picture, {"kind": "text", "text": "————", "rotation": 45, "position": "center", "opacity": 1})
    rows, columns = np.nonzero((done != picture).any(axis=2))
    assert np.corrcoef(columns, rows)[0, 1] < -0.9  # rises to the right, rows count downwards


def test_a_line_that_is_a_little_too_long_is_made_smaller():
    picture = grey(256, 256)
    left, top, right, bottom = touched(picture, marked(picture, {"kind": "text", "text": "W" * 16, "size": 0.1}))
    assert left >= 0
    assert right <= 1
    assert right - left > 0.9
    assert bottom - top < 0.1


def least_ink(text: str) -> int:
    """Pixels of the text in the smallest letters that are drawn, with all the room it may want."""
    mark = {"kind": "text", "text": text, "size": 0.01, "position": "center", "opacity": 1.0}
    ground = grey(800, 800)
    return int((marked(ground, mark) != ground).any(axis=2).sum())


@pytest.mark.parametrize("count", [40, 80, 200])
@pytest.mark.parametrize("text", ["M", "word ", "图"])
@pytest.mark.parametrize("changes", [{}, {"rotation": 45}, {"rotation": 90}, {"size": 0.01}, {"size": 0.5}])
def test_a_long_text_is_readable_at_the_smallest_size_or_refused(text, count, changes):
    mark = {"kind": "text", "text": (text * count)[:count], "position": "center", "opacity": 1.0, **changes}
    try:
        done = marked(grey(256, 256), mark)
    except MarkTooLarge:
        assert count >= 80
        return
    changed = (done != 128).any(axis=2)
    assert changed.sum() > 0.8 * least_ink(mark["text"])
    assert not changed[[0, -1]].all(axis=1).any(), "nothing is cut off"


@pytest.mark.parametrize("text", [" ", "\n", "\u3000\u3000", "\u200b", "\u2800", "\u3164", "\u202e \u00ad"])
@pytest.mark.parametrize("outline", [0, 0.1])
def test_a_blank_text_is_refused_with_its_field(text, outline):
    with pytest.raises(RecipeError) as refused:
        Recipe.from_json({"watermark": {"kind": "text", "text": text, "outline": outline}})
    (fault,) = refused.value.faults
    assert (fault.field, fault.code) == ("postprocess.watermark.text", "blank")


def test_lines_that_were_given_stay_and_words_stay_whole_where_they_can():
    mark = Recipe.from_json({"watermark": {"kind": "text", "text": "one two three four five six\nseven", "size": 0.2}})
    setting = set_text(mark.watermarks[0], 256, 256)
    assert setting.text.split("\n")[-1] == "seven"
    assert " ".join(setting.text.split("\n")[:-1]).split() == ["one", "two", "three", "four", "five", "six"]


def test_a_logo_keeps_its_alpha():
    picture = grey()
    done = marked(picture, {"kind": "image", "image": logo(), "scale": 0.5, "position": "top-left", "offset": [0, 0]})
    assert (done[75, 75] == (255, 0, 0)).all()
    assert (done[10, 10] == 128).all()
    half = marked(
        picture, {"kind": "image", "image": logo(128), "scale": 0.5, "position": "top-left", "offset": [0, 0]}
    )
    assert np.abs(half[75, 75].astype(int) - (192, 64, 64)).max() <= 1


@pytest.mark.parametrize("text", ["https://example.com/i/42?a=b", "图片由人工智能生成", "x" * 120])
@pytest.mark.parametrize("position", ["top-left", "bottom-right", "center"])
def test_a_qr_code_is_readable_after_webp_80(text, position):
    recipe = Recipe.from_json(
        {"quality": 80, "watermark": {"kind": "qr", "text": text, "scale": 0.3, "position": position}}
    )
    read = decode(process([scene(512, 640)], recipe)[0].data)
    assert cv2.QRCodeDetector().detectAndDecode(cv2.cvtColor(read, cv2.COLOR_RGB2BGR))[0] == text


def test_a_qr_code_that_cannot_be_readable_is_refused():
    with pytest.raises(MarkTooLarge, match="Shorten"):
        marked(grey(100, 400), {"kind": "qr", "text": "x" * 300})


@settings(max_examples=40, deadline=None)
@given(
    st.integers(40, 200),
    st.integers(40, 200),
    st.sampled_from(POSITIONS),
    st.floats(-180, 180),
    st.booleans(),
    st.sampled_from(["text", "image"]),
)
def test_any_size_takes_any_mark(height, width, position, rotation, tile, kind):
    picture = grey(height, width)
    mark = {"kind": kind, "position": position, "rotation": rotation, "tile": tile}
    done = marked(picture, mark | ({"text": "a 猫"} if kind == "text" else {"image": logo()}))
    assert done.shape == picture.shape
    assert (picture == 128).all()


def test_chinese_is_always_there():
    assert find_font("一只红色的猫 © ImageGenX, 2026。") == FontFile(str(SHIPPED))
    assert find_font("猫", "WenQuanYi Micro Hei").path == str(SHIPPED)


@pytest.mark.parametrize("family", ["simhei", "msyh", "No Such Font"])
def test_a_font_that_is_not_installed_is_the_one_that_ships(family):
    assert not is_installed(family)
    assert find_font("XX品牌", family) == FontFile(str(SHIPPED))
    assert is_installed("WenQuanYi Micro Hei")


def test_unknown_characters_are_named():
    assert missing_characters("a\U0001f9ff猫", FontFile(str(SHIPPED))) == ["\U0001f9ff"]
    with pytest.raises(FontMissing, match=r"U\+10FFFD"):
        find_font("a\U0010fffd")
