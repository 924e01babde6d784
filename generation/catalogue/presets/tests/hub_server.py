"""A hub on this machine: it speaks the hub's protocol and serves one folder, with the faults asked for."""

import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".onnx")  # kept by their SHA-256, as the hub keeps large files


class Hub:
    """`faults`: by file, what the next requests for its content meet: "cut", "wrong", or an HTTP status."""

    def __init__(self, folder: Path, repository: str) -> None:
        self.folder, self.repository = folder, repository
        self.faults: dict[str, list] = {}
        self.headers: dict[str, str] = {}
        self.seen: Counter = Counter()
        self.ranges: list[str] = []
        self.tokens: set = set()
        self.url = ""

    def files(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def facts(self, name):
        data = (self.folder / name).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        sha256 = hashlib.sha256(data).hexdigest()
        return data, blob, sha256 if name.endswith(LARGE) else ""

    def sibling(self, name):
        data, blob, sha256 = self.facts(name)
        entry = {"rfilename": name, "size": len(data), "blobId": blob}
        return {**entry, "lfs": {"sha256": sha256, "size": len(data), "pointerSize": 130}} if sha256 else entry


def handler_for(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            hub.tokens.add(self.headers.get("Authorization", ""))
            if re.fullmatch(rf"/api/models/{hub.repository}(/revision/[^/]+)?", path):
                if fault := _next(hub, "api"):
                    return self.answer(fault, b"{}", {"Retry-After": "1"})
                siblings = [hub.sibling(name) for name in hub.files()]
                body = json.dumps({"id": hub.repository, "sha": COMMIT, "siblings": siblings, "tags": []})
                return self.answer(200, body.encode(), {"Content-Type": "application/json"})
            found = re.fullmatch(rf"/{hub.repository}/resolve/([^/]+)/(.+)", path)
            if found is None or found[2] not in hub.files():
                return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return self.file(found[2])

        def file(self, name):
            data, blob, sha256 = hub.facts(name)
            facts = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256 or blob}"', "X-Linked-Size": str(len(data)),
                     "Accept-Ranges": "bytes"}  # fmt: skip
            if sha256:
                facts["X-Linked-Etag"] = f'"{sha256}"'
            if self.command == "HEAD":
                return self.answer(200, data, facts)
            hub.seen[name] += 1
            fault = _next(hub, name)
            if isinstance(fault, int):
                return self.answer(fault, b"{}", {"Retry-After": "1"})
            if fault == "wrong":
                data = bytes(len(data))
            status, start = 200, 0
            if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                hub.ranges.append(f"{name} from {asked[1]}")
                status, start = 206, int(asked[1])
                facts["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            part = data[start:]
            if fault == "cut":
                self.send_response(status)
                for key, value in {**facts, "Content-Length": str(len(part))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(part[: len(part) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return None
            return self.answer(status, part, facts)

        def answer(self, status, body, headers):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def _next(hub, name):
    waiting = hub.faults.get(name)
    return waiting.pop(0) if waiting else None


@contextmanager
def running(folder: Path, repository: str = "acme/mini"):
    hub = Hub(folder, repository)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
