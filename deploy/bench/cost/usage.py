"""What the running product has used: CPU by process, memory, and counts that do not depend on the machine's speed."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg2
import redis

from deploy.bench.product import environment_of, ready

# Redis commands that a client waits with while nothing happens: their number is a matter of time, not of tasks.
_WAITING: Final = ("brpop", "xread", "subscribe", "psubscribe", "ping", "info", "config|get", "client|setinfo")


class Usage:
    """Reads the processes and servers of one product."""

    def __init__(self, var_dir: Path) -> None:
        self._var_dir = var_dir
        env = environment_of(var_dir)
        self._rows = psycopg2.connect(env["DATABASE_URL"])
        self._rows.autocommit = True
        self._redis = redis.Redis.from_url(env["REDIS_URL"], decode_responses=True, socket_timeout=5)

    def cpu_ms(self) -> Counter[str]:
        """CPU (user and system) by process since its start, with that of children that have ended."""
        return Counter({name: sum(map(_used_ms, tree)) for name, tree in self._trees().items()})

    def memory_mb(self) -> dict[str, float]:
        """Memory of its own by process (unique set size); what processes share is counted with nobody."""
        sizes: dict[str, float] = {}
        for name, tree in self._trees().items():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                sizes[name] = sum(process.memory_full_info().uss for process in tree) / 2**20
        return sizes

    def counts(self) -> Counter[str]:
        """Transactions, row changes, connections and log bytes of Postgres; commands and connections of Redis."""
        return Counter(self._postgres() | self._redis_counts())

    def ended(self) -> int:
        """Tasks that have succeeded so far."""
        return int(self._value("SELECT count(*) FROM generation_task WHERE status = 'succeeded'"))

    def failed(self) -> int:
        """Tasks that have ended otherwise."""
        return int(self._value("SELECT count(*) FROM generation_task WHERE status IN ('failed', 'expired')"))

    def _trees(self) -> dict[str, list[psutil.Process]]:
        pids: Any = ready(self._var_dir)["pids"]
        trees = {}
        for name, pid in pids.items():
            if name == "run":
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                top = psutil.Process(pid)
                trees[name] = [top] if name == "supervisor" else [top, *top.children(recursive=True)]
        return trees

    def _postgres(self) -> dict[str, int]:
        with self._rows.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(
                "SELECT xact_commit, tup_inserted, tup_updated, sessions, pg_current_wal_lsn() - '0/0'::pg_lsn,"
                " pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
                " FROM pg_stat_database WHERE datname = current_database()"
            )
            row = cursor.fetchone()
        names = (
            "transactions",
            "rows inserted",
            "rows updated",
            "Postgres connections",
            "WAL bytes",
            "writing transactions",
        )
        return dict(zip(names, map(int, row or ()), strict=True))

    def _redis_counts(self) -> dict[str, int]:
        stats: Mapping[str, Any] = self._redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(value["calls"]) for name, value in stats.items()}
        scripts = calls.get("evalsha", 0) + calls.get("eval", 0)
        work = sum(count for name, count in calls.items() if name not in _WAITING)
        made = int(self._redis.info("stats")["total_connections_received"])
        published = calls.get("publish", 0) + calls.get("xadd", 0)
        return {"Redis commands": work, "Redis scripts": scripts, "events": published, "Redis connections": made}

    def _value(self, statement: str) -> Any:
        with self._rows.cursor() as cursor:
            cursor.execute(statement)
            return (cursor.fetchone() or (0,))[0]


def _used_ms(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return 1000 * float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
