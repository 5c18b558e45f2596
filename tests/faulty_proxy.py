"""An HTTP proxy that spoils one request in twenty: run as `faulty_proxy.py UPSTREAM_PORT`, prints its own port.

The faults take turns: 500, 503 SlowDown, a reset connection, an answer cut short, a silence; `--faults` names
others. The fault `part` is of another kind: nothing but the parts of large uploads is refused, every one. On
SIGTERM it prints how many of each there were, and how many uploads in parts were `aborted`.
"""

import argparse
import http.client
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVERY = 20
FAULTS = ["500", "503", "reset", "cut", "silence"]
SILENCE_SECONDS = 60
options: argparse.Namespace
_lock = threading.Lock()
_requests = 0
_done: Counter[str] = Counter()


def next_fault(method: str, path: str) -> str | None:
    """Return what to do to this request."""
    global _requests
    with _lock:
        if "uploadId=" in path and "part" in options.faults and method in ("PUT", "DELETE"):
            kind = "part" if method == "PUT" else "aborted"
            _done[kind] += 1
            return kind
        _requests += 1
        number, rest = divmod(_requests, EVERY)
        faults = [fault for fault in options.faults if fault != "part"]
        fault = faults[number % len(faults)] if faults and rest == EVERY // 2 else None
        _done[fault or "good"] += 1
        return fault


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = next_fault(self.command, self.path)
        if fault in ("500", "503", "part"):
            code = "SlowDown" if fault == "503" else "InternalError"
            answer = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
            status = 503 if fault == "503" else 500
            self.send(status, {"Content-Type": "application/xml"}, answer, len(answer))
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "silence":
            time.sleep(SILENCE_SECONDS)
            self.close_connection = True
        else:
            self.forward(body, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def forward(self, body: bytes, *, cut: bool) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", options.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        data = answer.read()
        hidden = ("transfer-encoding", "connection", "content-length")
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in hidden}
        length = int(answer.getheader("Content-Length") or len(data))
        self.send(answer.status, headers, data[: len(data) // 2] if cut else data, length)
        if cut:
            self.close_connection = True
        upstream.close()

    def send(self, status: int, headers: dict[str, str], data: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=FAULTS)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)

    def leave(*_: object) -> None:
        print(json.dumps(_done), flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    server.serve_forever()
