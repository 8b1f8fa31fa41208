"""Put first on PYTHONPATH, this refuses every connection that leaves the machine, and notes it."""

import os
import socket

_LOG = os.environ.get("LLMCOURSE_GUARD_LOG")
_connect, _connect_ex, _lookup = (
    socket.socket.connect,
    socket.socket.connect_ex,
    socket.getaddrinfo,
)
_sendto, _by_name = socket.socket.sendto, socket.gethostbyname


def _local(host: object) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host)
    return host is None or text in ("", "localhost", "::1") or text.startswith("127.")


def _refuse(what: object) -> None:
    if _LOG:
        with open(_LOG, "a", encoding="utf-8") as log:  # noqa: PTH123 (pathlib is not loaded yet)
            log.write(f"{what}\n")
    raise OSError(f"the guard refused {what}")


def connect(self: socket.socket, address: object) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        _refuse(address)
    return _connect(self, address)


def connect_ex(self: socket.socket, address: object) -> int:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        _refuse(address)
    return _connect_ex(self, address)


def getaddrinfo(host: object, *rest: object, **named: object) -> list:
    if not _local(host):
        _refuse(host)
    return _lookup(host, *rest, **named)


def sendto(self: socket.socket, *arguments: object) -> int:
    address = arguments[-1]
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        _refuse(address)
    return _sendto(self, *arguments)


def gethostbyname(host: object) -> str:
    if not _local(host):
        _refuse(host)
    return _by_name(host)


socket.socket.connect = connect
socket.socket.sendto = sendto
socket.gethostbyname = gethostbyname
socket.socket.connect_ex = connect_ex
socket.getaddrinfo = getaddrinfo
