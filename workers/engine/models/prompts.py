"""Prompts to embeddings: the stock encoder behind a cache; in chunks where a prompt is long or has weighted words.

CLIP reads 77 tokens. A longer prompt is taken in chunks of 75 tokens, each is encoded by itself, and the
results are laid end to end; the negative prompt is brought to the same length.
`(word:1.3)` multiplies the embeddings of those tokens, after which the mean is restored (as AUTOMATIC1111 does).
A short prompt without weights takes the stock way, bit for bit. Prompts are read by prompt_tokens.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from workers.engine.models.component_loader import CLIP_TOKENS
from workers.engine.models.embedding_cache import EmbeddingCache
from workers.engine.models.families import Family
from workers.engine.models.lora import LoraSet
from workers.engine.models.prompt_tokens import ReadPrompt, TokenReader
from workers.engine.requests import SampleRequest

CHUNK = 75  # tokens between the start and end tokens
MOST_RESTORED = 10.0  # the factor that brings back the mean of the embeddings; beyond it a picture is lost anyway


@dataclass(frozen=True)
class _Encoded:
    """`hidden` [1, 77 * chunks, width]; `pooled` [1, width] or None."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class PromptEncoder:
    """The text side of one model."""

    def __init__(
        self,
        components: dict[str, Any],
        family: Family,
        name: str,
        cache: EmbeddingCache,
        under_loras: Callable[[LoraSet], AbstractContextManager[object]],
    ) -> None:
        """`under_loras` puts the text encoders under a set of LoRAs for the length of a block."""
        self.cache = cache
        self._components = components
        self._family = family
        self._name = name
        self._under_loras = under_loras
        names = [part for part, value in components.items() if part.startswith("tokenizer") and value is not None]
        self._reader = TokenReader({part: components[part] for part in names})

    def close(self) -> None:
        """Forget everything."""
        self.cache.clear()
        self._reader.close()

    def arguments(self, request: SampleRequest, pipeline: Any, warnings: list[str]) -> dict[str, Any]:
        """Arguments for the pipeline: the texts themselves, or their embeddings where it could not encode them."""
        self._remember(pipeline, request.loras)
        text, negative_text = request.parameters.text, request.parameters.negative_text
        negative = negative_text or self._family.empty_negative
        if not self._family.chunked_prompts:
            self._warn_of_cuts(text, negative_text, warnings)
            if negative_text and not self._family.reads_negative:
                warnings.append(f"model {self._name} makes nothing of a negative prompt; it was not used")
                negative = None
            return {"prompt": text, "negative_prompt": negative}
        names = [tokenizer for tokenizer, _ in self._encoders()]
        positive, other = self._reader.read(text, names), self._reader.read(negative or "", names)
        if all(prompt.plain and prompt.length <= CHUNK for prompt in (positive, other)):
            return {"prompt": positive.text, "negative_prompt": other.text if negative is not None else None}
        key = ("chunks", text, negative, request.loras)
        with self._under_loras(request.loras):
            return self.cache.get(key, lambda: self._embeddings(positive, other, zeros=negative is None))

    def _remember(self, pipeline: Any, loras: LoraSet) -> None:
        """Put the pipeline's own encoding of prompts behind the cache."""
        encode = pipeline.encode_prompt

        @functools.wraps(encode)
        def under_loras(*args: Any, **kwargs: Any) -> Any:
            with self._under_loras(loras):
                return encode(*args, **kwargs)

        pipeline.encode_prompt = self.cache.remembering(under_loras, context=(type(pipeline).__name__, loras))

    # ---- long and weighted prompts

    def _encoders(self) -> list[tuple[str, Any]]:
        """The encoders that read chunks, each with the name of its tokenizer."""
        names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        parts = [(tokenizer, self._components.get(encoder)) for tokenizer, encoder in names]
        return [(tokenizer, encoder) for tokenizer, encoder in parts if encoder is not None]

    def _embeddings(self, positive: ReadPrompt, negative: ReadPrompt, *, zeros: bool) -> dict[str, Any]:
        """Both prompts at one length. `zeros`: no negative prompt was given, which SDXL takes as zeros."""
        chunks = max(1, *(-(-prompt.length // CHUNK) for prompt in (positive, negative)))
        yes, no = self._encode(positive, chunks), self._encode(negative, chunks)
        named = {"prompt_embeds": yes.hidden, "negative_prompt_embeds": no.hidden}
        if yes.pooled is not None and no.pooled is not None:
            named |= {"pooled_prompt_embeds": yes.pooled, "negative_pooled_prompt_embeds": no.pooled}
            if zeros:
                named |= {name: torch.zeros_like(value) for name, value in named.items() if "negative" in name}
        return named

    def _encode(self, prompt: ReadPrompt, chunks: int) -> _Encoded:
        encoders = self._encoders()
        several = len(encoders) > 1
        parts = [
            _encode_chunks(self._components[tokenizer], encoder, ids, weights, chunks, several)
            for (tokenizer, encoder), ids, weights in zip(encoders, prompt.ids, prompt.weights, strict=True)
        ]
        return _Encoded(torch.cat([part.hidden for part in parts], dim=-1), parts[-1].pooled)

    def _warn_of_cuts(self, prompt: str, negative: str, warnings: list[str]) -> None:
        name, limit = self._widest_reader()
        for title, text in (("prompt", prompt), ("negative prompt", negative)):
            length = self._reader.count(self._as_encoded(name, text), name) if text else 0
            if length > limit:
                warnings.append(f"the {title} has {length} tokens, of which model {self._name} reads {limit}")

    def _widest_reader(self) -> tuple[str, int]:
        """The tokenizer of the encoder that reads most, by name, and how many tokens that is. A model may have been
        saved without its large encoder: then CLIP is all that reads."""
        name = self._family.tokenizer
        if self._components.get(name.replace("tokenizer", "text_encoder")) is not None:
            return name, self._family.max_tokens
        return "tokenizer", CLIP_TOKENS

    def _as_encoded(self, tokenizer: str, text: str) -> str:
        """The text in the form that the encoder reads."""
        if not self._family.chat:
            return text
        return self._components[tokenizer].apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )


def _encode_chunks(
    tokenizer: Any, encoder: Any, ids: Sequence[int], weights: Sequence[float], chunks: int, several: bool
) -> _Encoded:
    """All chunks in one call of the encoder. `several`: the model has two encoders, so it is SDXL, which takes the last
    hidden layer but one and the pooled output of the first chunk."""
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows, factors = [], []
    for first in range(0, chunks * CHUNK, CHUNK):
        part, part_weights = ids[first : first + CHUNK], weights[first : first + CHUNK]
        missing = CHUNK - len(part)
        rows.append([start, *part, end, *[pad] * missing])
        factors.append([1.0, *part_weights, 1.0, *[1.0] * missing])
    output = encoder(torch.tensor(rows, device=encoder.device), output_hidden_states=several)
    hidden = output.hidden_states[-2] if several else output[0]
    hidden = _weighted(hidden, torch.tensor(factors, device=hidden.device, dtype=hidden.dtype))
    pooled = output[0][:1] if several and output[0].ndim == 2 else None
    return _Encoded(hidden.reshape(1, -1, hidden.shape[-1]), pooled)


def _weighted(hidden: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Tokens times their weights, the mean of the whole kept as far as that needs no factor beyond `MOST_RESTORED`:
    weights may make the mean zero."""
    if bool((factors == 1).all()):
        return hidden
    mean = hidden.mean()
    hidden = hidden * factors.unsqueeze(-1)
    restored = (mean / hidden.mean()).nan_to_num(1.0).clamp(-MOST_RESTORED, MOST_RESTORED)
    return hidden * restored.to(hidden.dtype)
