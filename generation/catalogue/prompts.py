"""From what the client wrote to what the model reads: style fragments and free keywords put around the text."""

from collections.abc import Sequence

from generation.catalogue.models import ImageModel, Style


def words_of(style: Style | None, model: ImageModel) -> Style | None:
    """The style whose words go into the prompt: none for a model that knows too few words for them."""
    return style if model.options.get("style_prompts", True) else None


def composed(text: str, style: Style | None, keywords: Sequence[str] = ()) -> str:
    """The prompt: the style's words with the text in their place, then the keywords."""
    framed = style.prompt.replace("{text}", text) if style and "{text}" in style.prompt else text
    return ", ".join([framed, *(word.strip() for word in keywords if word.strip())])


def composed_negative(negative_text: str, style: Style | None) -> str:
    """The negative prompt: the client's words, then the style's."""
    own = [negative_text.strip()] if negative_text.strip() else []
    return ", ".join(own + ([style.negative_prompt] if style and style.negative_prompt else []))
