"""A server with OpenAI's interface that fails on purpose."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler"], None]


@dataclass
class Request:
    """What came in, and when."""

    key: str | None = field(repr=False)
    body: dict[str, Any]
    moment: float

    @property
    def question(self) -> str:
        """The last message."""
        return self.body["messages"][-1]["content"]


@dataclass
class Server:
    """A running server.

    Attributes:
        url: Its address, as `base_url`.
        script: What it does with each request in turn; the last one stays.
        requests: What came in.
        errors: What went wrong in the script itself.
        over: Set when the server ends, so that nothing waits longer.
    """

    url: str
    script: list[Behaviour]
    requests: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """Handles one request by the script."""

    protocol_version = "HTTP/1.1"
    faulty: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.seen = Request(key, json.loads(body), time.monotonic())
        self.faulty.requests.append(self.seen)
        script = self.faulty.script
        behave = script.pop(0) if len(script) > 1 else script[0]
        try:
            behave(self)
        except ConnectionError:  # a client may go when it likes
            self.close_connection = True
        except BaseException as error:
            self.faulty.errors.append(error)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


def says(code: int, body: Any, kind: str = "application/json", **headers: str) -> Behaviour:
    """Answer with `body`: text as it is, anything else as JSON; a header's name has _ for -."""
    raw = (body if isinstance(body, str) else json.dumps(body)).encode()

    def behave(handler: Handler) -> None:
        handler.send_response(code)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Type": kind, "Content-Length": str(len(raw)), **more}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    return behave


def answers(text: str | None, finish: str = "stop") -> Behaviour:
    """A proper chat completion."""
    message = {"role": "assistant", "content": text}
    return says(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def hangs(handler: Handler) -> None:
    """Never answer."""
    handler.faulty.over.wait(600)
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def for_key(key: str, good: Behaviour) -> Behaviour:
    """`good` for whoever has the key; others get an error with the key that they sent."""

    def behave(handler: Handler) -> None:
        sent = handler.seen.key
        error = {"message": f"Incorrect API key provided: {sent}.", "code": "invalid_api_key"}
        (good if sent == key else says(401, {"error": error}))(handler)

    return behave


@contextmanager
def running(*script: Behaviour) -> Iterator[Server]:
    """A server on a free port, in a thread of its own; its script's errors raise at the end."""
    handler = type("OneHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.handle_error = lambda *_: None  # a client that went before its request was complete
        server = Server(f"http://127.0.0.1:{http.server_port}/v1", list(script))
        handler.faulty = server
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            http.shutdown()
            thread.join()
    if server.errors:
        raise server.errors[0]
