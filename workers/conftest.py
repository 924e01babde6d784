"""What every test of the workers may use."""

import sys
from collections.abc import Iterator

import pytest

from fixtures.fleet import fleet, processes, user
from fixtures.hostile import hostile
from fixtures.otlp_collector import collector
from fixtures.queue_server import cancel, enqueue, make_worker_queue, redis, redis_url
from fixtures.rows import able_model, client_of, key_of, make_task, make_user, owner, receiver, seeded
from fixtures.seed_rows import seed_rows


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    """An engine turns gradients off in its thread for good; in tests that is everybody's thread."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_grad_enabled(True)
