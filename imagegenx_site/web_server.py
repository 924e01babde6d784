"""The web process: uvicorn with a bound on the head of a request.

`python -m imagegenx_site.web_server` takes its arguments.

uvicorn's httptools protocol takes a request line and headers of any length into memory. A proxy in front bounds them;
this does where there is none (docs/decisions/0006).
"""

from typing import Final

import uvicorn
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD: Final = 64 << 10  # bytes of a request's head
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Closes the connection on a head over MAX_HEAD bytes. A head that came in one piece is counted by its headers."""

    _head = 0  # bytes since the head began
    _reading_head = True

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._reading_head:
            self._head += len(data)
            self._check()

    def on_message_begin(self) -> None:
        self._head, self._reading_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reading_head = False
        self._head = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._check():
            super().on_headers_complete()

    def _check(self) -> bool:
        """Whether the head is within the bound; else the answer is sent and the connection ends."""
        if self._head <= MAX_HEAD:
            return True
        self.transport.write(_TOO_LARGE)
        self.transport.close()
        return False


HTTP_PROTOCOLS["auto"] = "imagegenx_site.web_server:BoundedProtocol"  # uvicorn's command line takes only its own names

if __name__ == "__main__":
    uvicorn.main()
