"""Offer an offline kit to the room: `python -m llmcourse serve-kit FOLDER`."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import psutil
from tornado.web import Application, StaticFileHandler

from llmcourse.errors import SettingError


class Kit(StaticFileHandler):
    """Sends files, whole or from a byte on; it takes none, and knows nothing outside its folder."""

    @classmethod
    def get_content_version(cls, abspath: str) -> str:
        """Size and time: the default reads all of a file, here 500 MB, before it sends a byte."""
        state = os.stat(abspath)  # noqa: PTH116 - tornado's are strings
        return f"{state.st_size}-{state.st_mtime_ns}"


def application(folder: Path) -> Application:
    """The kit in `folder` as a web application.

    Raises:
        SettingError: there is no complete kit.
    """
    if not (folder / "kit.json").is_file():
        raise SettingError(f"{folder} is no complete offline kit: make one with make kit.")
    files = {"path": str(folder.resolve()), "default_filename": "README.txt"}
    return Application([(r"/(.*)", Kit, files)])


def addresses() -> list[str]:
    """This machine's IPv4 addresses in the networks that it is in."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        address.address
        for name, each in psutil.net_if_addrs().items()
        for address in each
        if name in up and address.family == socket.AF_INET
    ]
    return [address for address in found if not address.startswith(("127.", "169.254."))]


def lines(port: int) -> str:
    """What learners type, for the teacher's screen."""
    each = [f"http://{address}:{port}" for address in addresses()]
    text = []
    for address in each or [f"http://THIS-LAPTOP:{port}"]:
        text += [
            f"Linux, macOS   curl -O {address}/install_kit.py && python3 install_kit.py {address}",
            f"Windows        curl.exe -O {address}/install_kit.py; py install_kit.py {address}",
            "",
        ]
    several = "This laptop is in several networks: show the lines of the room's.\n\n"
    return (several if len(each) > 1 else "") + "\n".join(text) + "Ctrl-C ends it."


def serve(folder: Path, port: int) -> None:
    """Offer the kit to everyone in the room's network until Ctrl-C.

    Raises:
        SettingError: there is no kit, or the port is taken.
    """
    app = application(folder)

    async def run() -> None:
        try:
            app.listen(port)
        except OSError as error:
            raise SettingError(
                f"port {port}: {error.strerror}. Name another one with --port, such as 8701."
            ) from error
        print(lines(port), flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())
