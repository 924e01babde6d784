"""Embeddings of recent prompts. Values are shared between samples and must not be changed in place."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

from workers.engine.metrics import EMBEDDINGS


class EmbeddingCache:
    """LRU bounded by bytes. `hits` and `misses` are counted for the metrics."""

    def __init__(self, limit: int = 256 << 20) -> None:
        self.hits = 0
        self.misses = 0
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of `key`, made if it is not kept."""
        if key in self._kept:
            self.hits += 1
            EMBEDDINGS.labels("hit").inc()
            self._kept.move_to_end(key)
            return self._kept[key]
        self.misses += 1
        EMBEDDINGS.labels("miss").inc()
        value = self._kept[key] = make()
        self._bytes += _bytes(value)
        while len(self._kept) > 1 and self._bytes > self._limit:
            self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return value

    def remembering(self, encode: Callable[..., Any], context: Hashable) -> Callable[..., Any]:
        """A pipeline's `encode_prompt` behind this cache. `context` is what else decides its result. Calls that bring
        embeddings of their own go through untouched."""
        signature = inspect.signature(encode)

        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            named = signature.bind(*args, **kwargs).arguments
            if any(isinstance(value, torch.Tensor | list) and _bytes(value) for value in named.values()):
                return encode(*args, **kwargs)
            key = (context, tuple((name, repr(value)) for name, value in named.items()))
            return self.get(key, lambda: encode(*args, **kwargs))

        return encode_prompt

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything kept."""
        return self._bytes


def _bytes(value: Any) -> int:
    """Bytes of the tensors in a value."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return 0
