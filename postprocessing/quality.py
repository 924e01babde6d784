"""Encoder quality of the files that are written, 1 to 100."""

from typing import Final

DEFAULT_QUALITY: Final = {"webp": 85, "avif": 65, "png": 100, "jpeg": 90}  # where a request names none
THUMBNAIL_QUALITY: Final = 80  # of thumbnails and medium variants, always WebP
