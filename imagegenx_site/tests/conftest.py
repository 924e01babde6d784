"""For the tests that walk through the whole product: a client, a webhook receiver, and rows read behind the API's
back.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg2
import psycopg2.extras
import pytest

from fixtures.pytest_plugin import Stack


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the running product, with the demo key."""
    headers = {"authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=120, trust_env=False) as client:
        yield client


@dataclass
class Receiver:
    """A server that takes webhooks and remembers them as (headers, body)."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()
            taken.arrived.set()

        def log_message(self, *args: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield taken
    server.shutdown()
    server.server_close()


class Rows:
    """Queries against the running product's own database."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True

    def __call__(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def rows(stack: Stack) -> Iterator[Rows]:
    opened = Rows(stack.environment["DATABASE_URL"])
    yield opened
    opened.close()
