"""Where the files of models lie: what was pulled or imported is below MODELS_DIR, what ships is in the product."""

from pathlib import Path
from typing import Final

from django.conf import settings

SHIPPED: Final = Path(settings.BASE_DIR, "fixtures", "models")


def located(source: str) -> Path:
    """A source on this machine: absolute, below MODELS_DIR, or, where that has none of the name, one that ships."""
    own = Path(settings.MODELS_DIR, source)  # an absolute source stays as it is
    shipped = SHIPPED / source
    return shipped if not own.exists() and shipped.exists() else own
