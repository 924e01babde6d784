"""Runs suspended calls: groups them by what they may share, computes each group once, resumes its members."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Hashable, Sequence

from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.errors import is_out_of_memory
from workers.engine.interception import Call
from workers.engine.merge_rules import Unmergeable, split

logger = logging.getLogger(__name__)


class OutOfMemory(Exception):
    """A forward pass did not fit; no member has advanced. `rows` is what was tried."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"a forward pass of {rows} rows did not fit into memory")
        self.rows = rows


def group_key(sample: PipelineGreenlet) -> Hashable:
    """Samples with equal keys may share the forward pass of their suspended call.

    The module is part of it, and with the module the model. The LoRA set is not: it is taken by row.
    """
    call = _call_of(sample)
    request = sample.request
    alone = ("alone", request.sample_id)
    if request.alone or request.parameters.deterministic or call.module.rule is None:
        return alone
    try:
        shape = call.module.rule.key(call.arguments)
    except (Unmergeable, KeyError, TypeError, AttributeError) as reason:
        logger.debug("%s runs by itself: %s", call.module.name, reason)
        return alone
    return (id(call.module), shape)


def rows_of(sample: PipelineGreenlet) -> int:
    """Rows that the sample brings to its next forward pass."""
    return _call_of(sample).rows


def run_together(samples: Sequence[PipelineGreenlet]) -> None:
    """One forward pass for samples of one key; each is resumed with its share of the output.

    Raises OutOfMemory; then no sample has advanced. Any other error is narrowed down by running the members one by one:
    it is then raised inside the sample that causes it, and the others go on.
    """
    calls = [_call_of(sample) for sample in samples]
    failure: Exception | None = None
    results = []
    try:
        results = _compute(calls)
    except Exception as error:
        failure = error
    if failure is None:
        for sample, result in zip(samples, results, strict=True):
            sample.resume(result)
        return
    traceback.clear_frames(failure.__traceback__)  # the activations of the failed pass hang on them
    if is_out_of_memory(failure):
        failure = None
        raise OutOfMemory(sum(rows_of(sample) for sample in samples))
    _run_one_by_one(samples, failure)


def _compute(calls: Sequence[Call]) -> list:
    if len(calls) == 1:
        return [calls[0].run()]
    module, rule = calls[0].module, calls[0].module.rule
    assert rule is not None, "calls without a rule have a key of their own"
    rows = [call.rows for call in calls]
    if module.before is not None:
        module.before([(call.context, count) for call, count in zip(calls, rows, strict=True)])
    output = module.run(**rule.merge([call.arguments for call in calls], rows))
    return split(output, rows, listed=rule.listed_output)


def _run_one_by_one(samples: Sequence[PipelineGreenlet], error: Exception) -> None:
    if len(samples) == 1:
        samples[0].fail(error)
        return
    logger.warning("a forward pass of %d samples failed (%s); running them one by one", len(samples), error)
    for sample in samples:
        try:
            result = _call_of(sample).run()
        except Exception as own_error:
            sample.fail(own_error)
        else:
            sample.resume(result)


def _call_of(sample: PipelineGreenlet) -> Call:
    assert sample.call is not None, "only suspended samples are run"
    return sample.call
