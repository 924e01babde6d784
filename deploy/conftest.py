"""What the tests of the deployment and the benchmarks may use."""

from fixtures.fleet import fleet, processes, user
from fixtures.queue_server import redis, redis_url
from fixtures.rows import make_task, make_user, owner, seeded
from fixtures.seed_rows import seed_rows
