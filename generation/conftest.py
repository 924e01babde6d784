"""What every test of the domain and its doors may use."""

from fixtures.documented_answers import documented_answers
from fixtures.hostile import hostile
from fixtures.queue_server import cancel, enqueue, make_worker_queue, redis, redis_url
from fixtures.rows import (
    able_model,
    client_of,
    fresh_limits,
    key_of,
    live,
    make_task,
    make_user,
    own_folders,
    owner,
    receiver,
    seeded,
)
from fixtures.seed_rows import seed_rows
