"""Small versions of pictures. Pillow only: the web process makes them, too."""

import io

from PIL import Image, ImageOps

from postprocessing.quality import THUMBNAIL_QUALITY


def shrink(picture: Image.Image, side: int) -> None:
    """In place: the longer side at most `side` pixels. Smaller pictures stay."""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)


def small_webp(data: bytes, side: int) -> bytes:
    """A WebP of a picture's file with its longer side at most `side` pixels, on white, without metadata.

    Raises ValueError for what is no picture.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "AVIF", "PNG", "JPEG")) as file:
            file.draft("RGB", (side, side))
            picture = ImageOps.exif_transpose(file) or file
            if picture.has_transparency_data:
                layer = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            picture = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"Not a readable picture: {error}") from error
    shrink(picture, side)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=4)
    return buffer.getvalue()
