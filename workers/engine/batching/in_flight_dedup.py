"""One run for identical samples in flight: the first runs, the others wait for its picture. Pure: no torch, no clock.

Only samples that are `cacheable` take part. One that is more urgent than the sample that runs already does not wait
for it, because that one may be paused; it runs itself, and later ones wait for it. Those that must run `alone` neither
wait nor are waited for. When the one that runs leaves without a picture, another takes its place, unless the request
itself is at fault: then all have failed.
"""

from __future__ import annotations

from dataclasses import replace

from workers.engine.requests import Event, Failed, Finished, Progress, SampleId, SampleRequest


class InFlightDedup:
    """Which sample waits for which. The engine asks at admission, and passes its events through `fan_out`."""

    def __init__(self) -> None:
        self._runs: dict[str, SampleRequest] = {}  # by identity: the one that later ones wait for
        self._waiting: dict[SampleId, list[SampleRequest]] = {}  # by the id of the one that runs

    def join_or_lead(self, request: SampleRequest) -> bool:
        """True: `request` now waits for an identical sample. False: it is to run, and later ones may wait for it."""
        if not request.cacheable or request.alone:
            return False
        running = self._runs.get(request.identity)
        if running is not None and running.priority <= request.priority:
            self._waiting[running.sample_id].append(request)
            return True
        self._runs[request.identity] = request
        self._waiting[request.sample_id] = []
        return False

    def waiting(self) -> list[SampleRequest]:
        """All that wait for an identical sample."""
        return [request for waiting in self._waiting.values() for request in waiting]

    def leave(self, sample_id: SampleId) -> bool:
        """The sample waits no longer. Whether it did."""
        for waiting in self._waiting.values():
            for request in waiting:
                if request.sample_id == sample_id:
                    waiting.remove(request)
                    return True
        return False

    def fan_out(self, event: Event) -> tuple[list[Event], list[SampleRequest]]:
        """The event and the same for those that waited for its sample; then those to be admitted again, the
        most urgent first."""
        if isinstance(event, Progress):
            waiting = self._waiting.get(event.sample_id, [])
            return [event, *(_as_theirs(event, request) for request in waiting)], []
        waiting = self._end(event.sample_id)
        if isinstance(event, Finished) or (isinstance(event, Failed) and not event.retryable):
            return [event, *(_as_theirs(event, request) for request in waiting)], []
        return [event], sorted(waiting, key=lambda request: (request.priority, request.arrived))

    def clear(self) -> None:
        """Forget all."""
        self._runs.clear()
        self._waiting.clear()

    def _end(self, sample_id: SampleId) -> list[SampleRequest]:
        for identity in [identity for identity, run in self._runs.items() if run.sample_id == sample_id]:
            del self._runs[identity]
        return self._waiting.pop(sample_id, [])


def _as_theirs(event: Event, request: SampleRequest) -> Event:
    if isinstance(event, Progress) and not request.preview_every:
        return replace(event, sample_id=request.sample_id, preview=None)
    return replace(event, sample_id=request.sample_id)
