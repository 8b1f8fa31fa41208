"""Where a hosted model is asked, and with which key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmcourse.errors import AuthenticationError, SettingError, UserError, whole

if TYPE_CHECKING:
    import openai

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
DAY = 86400  # seconds
HOW = (
    f"No hosted model is connected. Set the environment variable {KEY} to your key, or {URL} to "
    f"the address of a server of your own, such as http://localhost:8000/v1 for "
    f"`transformers serve`."
)


@dataclass(frozen=True, repr=False)
class Server:
    """Where a hosted model is asked; its repr never shows the key.

    Attributes:
        base_url: The server's address, up to and with /v1; None is the client's own default:
            OPENAI_BASE_URL, else OpenAI.
        key: The key; None sends "none", which a server of your own is content with.
    """

    base_url: str | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def found(cls, key: str | None = None, base_url: str | None = None) -> Server | None:
        """The server that is meant by the arguments, else by the environment; None if none is.

        Each of the two is looked for by itself, as the `openai` client does: a key in the
        environment goes to whatever address is given.

        Args:
            key: Else OPENAI_API_KEY. One given as "" counts as not given.
            base_url: Else OPENAI_BASE_URL. An address alone is enough.
        """
        url = _given(base_url) or _given(os.environ.get(URL))
        key = _given(key) or _given(os.environ.get(KEY))
        return cls(url, key) if url or key else None

    def __repr__(self) -> str:
        url = shown(self.base_url) if isinstance(self.base_url, str) else self.base_url
        return f"Server(base_url={url!r}, key {'hidden' if self.key else 'not set'})"


def _given(text: str | None) -> str | None:
    """A setting without the blanks around it; None where nothing is left."""
    return (text.strip() or None) if isinstance(text, str) else text


def number(name: str, value: object, least: float, most: float) -> float:
    """The setting `name` as a number from `least` to `most`.

    Raises:
        SettingError: it is none.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not (good and least <= value <= most):
        raise SettingError(f"{name}={value!r} must be a number from {least:g} to {most:g}.")
    return float(value)


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password and query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that can't be read"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}".rstrip("/")


def connect(server: Server | None, timeout: float, retries: int) -> openai.OpenAI:
    """A client for `server`, checked as far as that goes without sending anything.

    The key is only ever read from `server`, so that no frame of a traceback has it by itself.

    Args:
        server: From `Server.found()`, or None.
        timeout: Seconds, at most a day.
        retries: At least 0.

    Raises:
        SettingError: a number or the address means nothing, or `server` is none.
        AuthenticationError: there is neither key nor address, or the key can't be sent.
        UserError: the `openai` package is missing.
    """
    if server is None or (
        isinstance(server, Server) and not (server.key or server.base_url or os.environ.get(URL))
    ):
        raise AuthenticationError(HOW)
    if not isinstance(server, Server):
        raise SettingError(f"server is of type {type(server).__name__}; a hosted.Server is wanted.")
    seconds = number("timeout", timeout, 0.001, DAY)
    again = whole("retries", retries, 0)
    if server.key is not None and not _sendable(server.key):
        raise AuthenticationError(
            f"The key has characters that no key has, or is empty. Copy it again into {KEY}."
        )
    address = server.base_url or _given(os.environ.get(URL))
    if address is not None:
        _check_address(address)
    try:
        import openai
    except ImportError:
        raise UserError(
            "The client for hosted models is not installed. Install it: pip install "
            '"llmcourse[hosted]" (in a copy of the course: pip install -r requirements-hosted.txt).'
        ) from None
    client, wrong = None, ""
    try:
        client = openai.OpenAI(
            api_key=(server.key or "none").strip(), base_url=address, timeout=seconds,
            max_retries=again,
        )  # fmt: skip
    except Exception as error:
        wrong = type(error).__name__
    if client is None:  # outside of `except`: the client's frames have the key
        raise SettingError(
            f"No client for {shown(address or '') or 'OpenAI'} can be made ({wrong}). Look at the "
            f"address, and at the environment's settings for proxies and certificates."
        )
    return client


def _sendable(key: object) -> bool:
    """Whether a key can stand in a request's header."""
    if not isinstance(key, str):
        return False
    bare = key.strip()
    return bool(bare) and bare.isascii() and bare.isprintable() and " " not in bare


def _check_address(url: object) -> None:
    """Raise a SettingError unless `url` is the address of a server, and nothing more."""
    way_out = f"Write it like http://localhost:8000/v1 (base_url or {URL})."
    seen = shown(url) if isinstance(url, str) else f"of type {type(url).__name__}"
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/]+(/\S*)?", seen):
        raise SettingError(f"The server's address can't be used: {seen}. {way_out}")
    if urlsplit(url).username is not None or urlsplit(url).query:
        raise SettingError(
            f"The server's address {seen} comes with a user, a password or a query, which would "
            f"not stay secret. Leave them out, and give the key as key or {KEY}. {way_out}"
        )
