"""Prompts as tokens with weights, read so that no other sample waits for a long one.

A prompt of up to `SHORT` characters is read where it is asked for, in less than a millisecond. A longer one is read in
a thread of its own while the samples of others step on. The tokenizers are copies: a pipeline sets the length at which
its own cut, and does so from the engine's thread.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from workers.engine.interception import await_future
from workers.engine.prompt_weights import Piece, is_plain, parse

SHORT: Final = 500  # characters
T = TypeVar("T")


@dataclass(frozen=True)
class ReadPrompt:
    """`ids` and `weights`: of each tokenizer, without start and end."""

    pieces: tuple[Piece, ...]
    ids: tuple[list[int], ...]
    weights: tuple[list[float], ...]

    @property
    def length(self) -> int:
        """Tokens, of the tokenizer that makes most of them."""
        return max(map(len, self.ids))

    @property
    def plain(self) -> bool:
        """Whether nothing is weighted."""
        return is_plain(self.pieces)

    @property
    def text(self) -> str:
        """Without the signs that set weights."""
        return "".join(piece.text for piece in self.pieces)


class TokenReader:
    """The tokenizers of one model, by the name of their component."""

    def __init__(self, tokenizers: Mapping[str, Any]) -> None:
        self._tokenizers = {name: copy.deepcopy(tokenizer) for name, tokenizer in tokenizers.items()}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompt-reader")  # starts when it is used
        self._read = functools.lru_cache(64)(self._read_now)

    def read(self, text: str, names: Sequence[str]) -> ReadPrompt:
        """A prompt with its weights, by these tokenizers. Recent ones are remembered."""
        return self._aside(text, lambda: self._read(text, tuple(names)))

    def count(self, text: str, name: str) -> int:
        """Tokens of a text without weights, those that the tokenizer puts around it counted."""
        return self._aside(text, lambda: len(self._tokenizers[name](text, verbose=False).input_ids)) if text else 0

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def _aside(self, text: str, work: Callable[[], T]) -> T:
        return work() if len(text) <= SHORT else await_future(self._thread.submit(work))

    def _read_now(self, text: str, names: tuple[str, ...]) -> ReadPrompt:
        pieces = parse(text)
        ids: list[list[int]] = []
        weights: list[list[float]] = []
        for name in names:
            parts = _encoded(self._tokenizers[name], [piece.text for piece in pieces])
            ids.append([token for part in parts for token in part])
            weights.append([piece.weight for piece, part in zip(pieces, parts, strict=True) for _ in part])
        return ReadPrompt(pieces, tuple(ids), tuple(weights))


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without start and end. The library's own core needs a tenth of the time of a call of the
    tokenizer, which a prompt of 2,500 brackets makes 5,000 times."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return [tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts]
    core.no_truncation()
    core.no_padding()
    return [found.ids for found in core.encode_batch_fast(texts, add_special_tokens=False)]
