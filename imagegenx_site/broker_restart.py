"""A Redis restart must not kill a worker that holds an unacknowledged message.

With kombu 5.7.0 and celery 5.7.0 it does: after the connection broke, the consumer closes a channel whose client is
gone already, kombu tries to put the unacknowledged messages back through it, and the AttributeError ends the process.
Putting them back is impossible then and not needed: the running task goes on, its late acknowledgement fails and is
logged, and the message, still in Redis' `unacked` hash, is delivered again after the visibility timeout and finds its
task finished.

`workers/tests/test_redis_restart.py` restarts Redis under a worker; drop this module when it passes without
(docs/decisions/0006).
"""

from contextlib import contextmanager
from typing import Any

from kombu.transport import redis as transport
from redis.exceptions import ConnectionError as RedisConnectionError


@contextmanager
def _gone_client_is_a_lost_connection():  # type: ignore[no-untyped-def]
    try:
        yield
    except AttributeError as error:
        raise RedisConnectionError("the broker connection of this message is gone") from error


class RestartSafeQoS(transport.QoS):
    """kombu's bookkeeping of delivered messages, for channels that may have lost their client."""

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """A message that is not kept goes back to where it came from, the end that is read next. kombu puts it at the
        other one, where it would shift the places of all tickets (generation/queue/lua/layout.lua).
        """
        super().restore_by_tag(tag, client, leftmost=False)

    def restore_unacked(self, client: Any = None) -> None:
        try:
            if self.channel.connection is not None and self.channel.connection.client is not None:
                super().restore_unacked(client)
        except AttributeError:
            transport.logger.warning("connection lost; messages stay unacknowledged in Redis")
        if self._delivered is not None:
            self._delivered.clear()

    def ack(self, delivery_tag: str) -> None:
        with _gone_client_is_a_lost_connection():
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with _gone_client_is_a_lost_connection():
            super().reject(delivery_tag, requeue=requeue)


def apply() -> None:
    """Installs the class for every channel made from now on; call it before the app connects."""
    transport.Channel.QoS = RestartSafeQoS
