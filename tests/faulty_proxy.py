"""A server that fails on purpose, alone or in front of a real one."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Behaviour = Callable[["_Handler"], None]


@dataclass
class Request:
    """What came in, and when."""

    key: str | None = field(repr=False)
    body: dict[str, Any]
    moment: float


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: Its address, as `base_url`.
        script: What it does with each request in turn; the last one stays.
        upstream: Address of the server that `forward` asks.
        requests: What came in.
        errors: What went wrong in the script itself.
        over: Set when the proxy ends, so that nothing waits longer.
    """

    url: str
    script: list[Behaviour]
    upstream: str | None = None
    requests: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    """A server that keeps the errors of its threads."""

    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a client may go when it likes
            self.proxy.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.raw = self.rfile.read(length)
        if len(self.raw) < length:  # the client went before its request was whole
            self.close_connection = True
            return
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        request = Request(key, json.loads(self.raw), time.monotonic())
        self.request_seen = request
        self.proxy.requests.append(request)
        script = self.proxy.script
        behave = script.pop(0) if len(script) > 1 else script[0]
        behave(self)

    def send(self, code: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """A whole response; a header's name has _ for -."""
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def upstream_reply(self) -> tuple[int, bytes, str]:
        """What the real server answers: status, body, kind of body."""
        target = urlsplit(self.proxy.upstream)
        link = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        try:
            link.request("POST", self.path, self.raw, {"Content-Type": "application/json"})
            reply = link.getresponse()
            return reply.status, reply.read(), reply.headers["Content-Type"]
        finally:
            link.close()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def says(code: int, body: Any, kind: str = "application/json", **headers: str) -> Behaviour:
    """Answer with `body`: bytes or text as they are, anything else as JSON."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    raw = text if isinstance(text, bytes) else text.encode()
    return lambda handler: handler.send(code, raw, kind, **headers)


def answers(text: str | None, finish: str = "stop") -> Behaviour:
    """A proper chat completion."""
    message = {"role": "assistant", "content": text}
    return says(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def hangs(handler: _Handler) -> None:
    """Never answer."""
    handler.proxy.over.wait(600)
    handler.close_connection = True


def hangs_up(handler: _Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def forward(handler: _Handler) -> None:
    """Pass the request on to the real server, and its answer back."""
    handler.send(*handler.upstream_reply())


def for_key(key: str, good: Behaviour) -> Behaviour:
    """`good` for whoever has the key; others are told which key they sent."""

    def behave(handler: _Handler) -> None:
        sent = handler.request_seen.key
        error = {"message": f"Incorrect API key provided: {sent}.", "code": "invalid_api_key"}
        (good if sent == key else says(401, {"error": error}))(handler)

    return behave


@contextmanager
def running(*script: Behaviour, upstream: str | None = None) -> Iterator[Proxy]:
    """A proxy on a free port, in a thread of its own; its script's errors raise at the end."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}/v1", list(script), upstream)
        handler.proxy = server.proxy = proxy
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
            thread.join()
    if proxy.errors:
        raise proxy.errors[0]
