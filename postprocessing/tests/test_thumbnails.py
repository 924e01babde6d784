import io

import pytest
from PIL import Image

from postprocessing.thumbnails import small_webp


def file(form: str = "PNG", size: tuple[int, int] = (1200, 800), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("PNG", "L"), ("WEBP", "RGB"), ("AVIF", "RGB"), ("JPEG", "CMYK"), ("PNG", "P")]
)
def test_every_kind_of_file_shrinks(form, mode):
    with Image.open(io.BytesIO(small_webp(file(form, (300, 200), mode), 100))) as small:
        assert (small.format, small.mode, small.size) == ("WEBP", "RGB", (100, 67))


def test_small_pictures_keep_their_size_and_no_pictures_are_refused():
    with Image.open(io.BytesIO(small_webp(file(size=(30, 20)), 256))) as small:
        assert small.size == (30, 20)
    with pytest.raises(ValueError, match="Not a readable picture"):
        small_webp(b"no picture", 256)
