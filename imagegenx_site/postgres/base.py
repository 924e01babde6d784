"""The backend: `DATABASES["default"]["ENGINE"]`."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that knows without a round trip whether the server has closed it."""

    def is_usable(self) -> bool:
        """Whether the server still holds the other end. Django asks it a query before each request; here it is enough
        to look: an idle connection has nothing to read, unless the server said good-bye or is gone.
        """
        if self.connection is None or self.connection.closed:
            return False
        waiting = select.poll()
        waiting.register(self.connection.fileno(), select.POLLIN | select.POLLERR | select.POLLHUP)
        return not waiting.poll(0)
