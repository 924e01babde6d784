"""Celery's events in bundles: a worker publishes each event of a task at once, three for each message, which takes a
fifth of a GPU worker's time beside the model. Here those of EVENTS_EVERY_S go together; Flower shows them so much later
(docs/decisions/0006).
"""

from typing import Final

from celery.worker.consumer import Consumer

EVENTS_EVERY_S: Final = 0.25


class ThriftyConsumer(Consumer):
    """Celery's consumer, which sends the events of a quarter of a second together."""

    _events_due = False

    def _flush_events(self) -> None:
        """In the event loop, after an event was noted."""
        if not self._events_due:
            self._events_due = True
            self.hub.call_later(EVENTS_EVERY_S, self._flush_noted)  # type: ignore[attr-defined]

    def _flush_noted(self) -> None:
        self._events_due = False
        super()._flush_events()  # type: ignore[misc]  # missing in the stubs
