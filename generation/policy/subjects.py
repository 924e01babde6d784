"""What the content policy looks at: every text of a request that ends up in a prompt or in a picture.

    field of a request                the policy sees
    text, texts                       as given, and as composed with the style's words and the keywords
    params.style_keywords             all of them, one after the other
    params.negative_text              as given
    params.postprocess.watermark      the words of all marks, one after the other; what a QR code says also decoded as
                                      an address is (%62lood)
    params.loras                      the names; of an upload its name, its file's name and its trigger words

The engine reads weights away, as in `(severed:1.2) head`: such texts are also looked at without (`readings`).
Names of uploaded pictures are never kept or drawn. Words of styles and of a plan's mark are the operator's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from generation.catalogue import prompts
from generation.catalogue.models import ImageModel, Style
from generation.catalogue.parameters import Parameters
from workers.engine import prompt_weights

LORA: Final = "lora"  # the kind of an upload
PREVIEW: Final = "preview"  # that of a picture that is shown as it would be used


@dataclass(frozen=True)
class Composed:
    """A prompt as the model gets it, and what of it are the operator's words alone."""

    field: str
    text: str
    own: str


@dataclass(frozen=True)
class PolicySubject:
    """What policy checks of a request. `prompts`: texts that say what is drawn; `texts`: all others; each with the name
    of its field.
    """

    prompts: tuple[tuple[str, str], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    composed: tuple[Composed, ...] = ()
    style: Style | None = None
    model: ImageModel | None = None
    kind: str = ""

    @property
    def makes_pictures(self) -> bool:
        """Not an upload of a LoRA, which draws nothing, nor the preview of a picture that the client has."""
        return self.kind not in (LORA, PREVIEW)


def readings(text: str) -> tuple[str, ...]:
    """A text as given and, where that differs, as the engine reads it: without its weights."""
    read = "".join(piece.text for piece in prompt_weights.parse(text))
    return (text,) if read == text else (text, read)


def of_request(checked: Mapping[str, Any], style: Style | None, kind: str) -> PolicySubject:
    """Of a checked request (generation/api/forms.py)."""
    params: Mapping[str, Any] = checked.get("params", {})
    model: ImageModel | None = checked["model"]
    keywords = params.get("style_keywords", ())
    if "texts" in checked:
        given = tuple((f"texts[{number}]", text) for number, text in enumerate(checked["texts"]))
    else:
        given = (("text", checked["text"]),) if "text" in checked else ()
    texts = {
        "params.style_keywords": " ".join(keywords),
        "params.negative_text": params.get("negative_text", ""),
        "params.postprocess.watermark": _marks(params.get("postprocess", {})),
        "params.loras": _names(params.get("loras", ())),
    }
    words = prompts.words_of(style, model) if model else None
    joined = tuple(_composed(field, text, words, keywords) for field, text in given) if keywords or words else ()
    return PolicySubject(given, _present(texts), joined, style, model, kind)


def of_task(
    parameters: Parameters, text: str, style: Style | None, model: ImageModel | None, kind: str
) -> PolicySubject:
    """Of a task that is made again. Its prompts were composed when it was first made, maybe of a style's other words:
    what the style says now is the operator's.
    """
    if model is None:
        marks = {"params.postprocess.watermark": _marks(parameters.postprocess)}
        return PolicySubject(texts=_present(marks), kind=kind)
    words = prompts.words_of(style, model)
    composed = (
        Composed("text", parameters.text, prompts.composed("", words)),
        Composed("params.negative_text", parameters.negative_text, prompts.composed_negative("", words)),
    )
    texts = {
        "params.postprocess.watermark": _marks(parameters.postprocess),
        "params.loras": _names(parameters.loras),
    }
    return PolicySubject((("text", text),), _present(texts), composed, style, model, kind)


def of_preview(watermark: Any) -> PolicySubject:
    """Of a watermark that is shown on a picture before anything is made."""
    return PolicySubject(texts=_present({"watermark": _marks({"watermark": watermark})}), kind=PREVIEW)


def of_lora(name: str, file: str, triggers: Sequence[str]) -> PolicySubject:
    """Of an upload."""
    texts = {"name": name, "file": f"{file.removesuffix('.safetensors')}, {', '.join(triggers)}"}
    return PolicySubject(texts=_present(texts), kind=LORA)


def _composed(field: str, text: str, style: Style | None, keywords: Sequence[str]) -> Composed:
    return Composed(field, prompts.composed(text, style, keywords), prompts.composed("", style))


def _marks(block: Mapping[str, Any]) -> str:
    given = block.get("watermark") or ()
    marks = [given] if isinstance(given, Mapping) else given
    words = [str(mark.get("text", "")) for mark in marks]
    decoded = [unquote(text) for text in words if "%" in text]
    return " ".join([*words, *decoded])


def _names(loras: Sequence[Any]) -> str:
    return ", ".join(lora.name for lora in loras)


def _present(texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((field, text) for field, text in texts.items() if text.strip())
