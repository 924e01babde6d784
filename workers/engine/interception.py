"""Where an unmodified pipeline hands its heavy calls to the engine.

A pipeline call runs inside a greenlet (batching/pipeline_greenlet.py). Its heavy modules are shallow copies, made by
`shared`, whose forward hands the call to the engine instead of computing: the greenlet is suspended until the engine
has run the real module once for a whole group of such calls. Outside a greenlet a shared module computes at once, so
the same pipeline object also serves a plain run, one at a time.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from greenlet import getcurrent

from workers.engine.merge_rules import MergeRule, rule_for


class Phase(Enum):
    """When the engine runs a suspended call."""

    DENOISE = "denoise"  # one step of one batch; the scheduler chooses
    AUXILIARY = "auxiliary"  # before the denoisers, all at once: their samples then join the same step
    DECODE = "decode"  # after the denoisers, in passes of their own length
    REMOTE = "remote"  # computed elsewhere (a remote model, another thread); the engine only looks whether it is done


@dataclass
class SharedModule:
    """A real module behind its shallow copies. `before` is called with the (context, rows) of all members just before
    a merged run, to set per-row state such as LoRAs."""

    module: torch.nn.Module | None
    run: Callable[..., Any]
    rule: MergeRule | None
    phase: Phase
    signature: inspect.Signature
    before: Callable[[Sequence[tuple[Any, int]]], None] | None = None

    @property
    def name(self) -> str:
        """For log lines."""
        return type(self.module).__name__


@dataclass
class Call:
    """One suspended call: which module, with which named arguments. `context` is the sample's (its LoRA set)."""

    module: SharedModule
    arguments: dict[str, Any]
    context: Hashable = None
    future: Future | None = field(default=None, repr=False)

    @property
    def phase(self) -> Phase:
        return self.module.phase

    @functools.cached_property
    def rows(self) -> int:
        """Rows that it brings to a forward pass; counted once, as policy, limits and merging all ask for it."""
        try:
            return self.module.rule.count_rows(self.arguments) if self.module.rule is not None else 1
        except (KeyError, TypeError):
            return 1  # a call that no rule understands runs by itself, whatever it brings

    def run(self) -> Any:
        """Run this call by itself, exactly as its pipeline made it."""
        if self.module.before is not None:
            self.module.before([(self.context, self.rows)])
        return self.module.run(**self.arguments)


def shared(module: torch.nn.Module, phase: Phase, *, method: str = "forward") -> tuple[torch.nn.Module, SharedModule]:
    """A shallow copy of `module` (same weights) whose `method` suspends, and the record of the real one."""
    real = getattr(module, method)
    record = SharedModule(
        module=module,
        run=module if method == "forward" else real,
        rule=rule_for(module, method),
        phase=phase,
        signature=inspect.signature(real),
    )

    def intercepted(*args: Any, **kwargs: Any) -> Any:
        return suspend(Call(record, _named(record.signature, args, kwargs)))

    shallow = copy.copy(module)
    shallow._forward_hooks, shallow._forward_pre_hooks = OrderedDict(), OrderedDict()  # those of the real one run once
    setattr(shallow, method, intercepted)
    return shallow, record


def suspend(call: Call) -> Any:
    """Wait in the engine for the result of `call`; outside a pipeline's greenlet, compute it here and now."""
    sample = getcurrent()
    call.context = getattr(sample, "context", None)
    if sample.parent is None:
        return call.future.result() if call.future is not None else call.run()
    return sample.parent.switch(call)


@contextmanager
def in_context(context: Hashable) -> Iterator[None]:
    """Calls inside have this context, for the length of the block. In the engine they have that of their sample."""
    current = getcurrent()
    before = getattr(current, "context", None)
    current.context = context
    try:
        yield
    finally:
        current.context = before


def await_future(future: Future) -> Any:
    """Wait for a future without stopping the engine: other samples step on meanwhile."""
    return suspend(elsewhere(future))


def elsewhere(future: Future) -> Call:
    """The call of a sample that waits for that future."""
    return Call(SharedModule(None, future.result, None, Phase.REMOTE, inspect.Signature()), {}, future=future)


def _named(signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name. Those given by keyword only (nearly all) need no binding."""
    if not args:
        return dict(kwargs)
    names = list(signature.parameters)
    return {**dict(zip(names, args, strict=False)), **kwargs}
