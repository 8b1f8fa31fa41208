"""Asking a model behind a server that speaks OpenAI's chat completions.

Such a server is a paid service, a company's own, or one on this machine: `transformers serve`,
vLLM, llama.cpp and Ollama all speak it. The official `openai` client connects, waits and tries
again; it is optional: `pip install "llmcourse[hosted]"`.

Our errors never hold the key, nor does a notebook that shows them. The client's errors keep the
request with its headers, so ours are raised after those are gone; a key that a server repeats is
blotted out.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmcourse.errors import (
    APIError,
    AuthenticationError,
    CourseError,
    ModelNameError,
    PromptError,
    RateLimitError,
    SettingError,
    UnavailableResourceError,
    UserError,
    whole,
)
from llmcourse.progress import bar

if TYPE_CHECKING:
    import openai

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
HOW = (
    f"No hosted model is connected. Set the environment variable {KEY} to your key, or {URL} to "
    f"the address of a server of your own, such as http://localhost:8000/v1 for "
    f"`transformers serve`."
)
NO_CHAT = (
    "answered with something that is no chat completion. Is base_url the address of an "
    "OpenAI-compatible server? It usually ends in /v1."
)


@dataclass(frozen=True, repr=False)
class Server:
    """Where a hosted model is asked; its repr never shows the key.

    Attributes:
        base_url: The server's address, up to and with /v1; None is OpenAI.
        key: The key; None sends "none", which a server of your own is content with.
    """

    base_url: str | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def found(cls, key: str | None = None, base_url: str | None = None) -> Server | None:
        """The server that the arguments name, else the environment; None if neither does.

        Each of the two is looked for by itself, as the `openai` client does: a key in the
        environment goes to whatever address is given.

        Args:
            key: Else OPENAI_API_KEY. One given as "" counts as not given.
            base_url: Else OPENAI_BASE_URL. An address alone is enough.
        """
        url = (base_url or "").strip() or os.environ.get(URL, "").strip() or None
        key = (key or "").strip() or os.environ.get(KEY, "").strip() or None
        return cls(url, key) if url or key else None

    @property
    def address(self) -> str:
        """The address for messages, without what may be secret: user, password, query."""
        try:
            parts = urlsplit(self.base_url or "https://api.openai.com/v1")
        except ValueError:
            return "an address that can't be read"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")

    def __repr__(self) -> str:
        return f"Server({self.address}, key {'hidden' if self.key else 'not set'})"


def ask(
    prompts: str | Iterable[str],
    model: str,
    server: Server | None,
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    temperature: float | None = None,
    timeout: float = 60.0,
    retries: int = 2,
    at_once: int = 4,
    progress: bool = True,
) -> list[str]:
    """The hosted model's answers, in input order.

    Args:
        prompts: A question, or any number of them.
        model: The model's name at the server; `transformers serve` takes a folder's path too.
        server: From `Server.found()`; None raises an error that says how to connect.
        system: The system prompt.
        max_new_tokens: Longest answer in tokens; the server's own limit if not given. For a
            model that thinks first, its thoughts count too.
        stop: Text that ends an answer, or several. It is no part of the answer, also where a
            server leaves it in.
        temperature: 0 takes the likeliest token each time; the server's own if not given.
        timeout: Seconds to wait for the server, at each try.
        retries: How often the client sends a request again after a 408, 409, 429 or 5xx, a
            time-out or a lost connection.
        at_once: Requests on their way at the same time. A server that answers one after the
            other needs `timeout` for all of them.
        progress: False shows no progress.

    Returns:
        One text a prompt. A text may be cut off by `max_new_tokens`, and is "" where the model
        ended at once.

    Raises:
        PromptError: a prompt is empty or no text.
        SettingError: a number or the address means nothing.
        UserError: the `openai` package is missing.
        AuthenticationError: there is no key, or the server refuses it.
        RateLimitError: the server was asked too often, after all retries.
        ModelNameError: the server says that it has no such model.
        UnavailableResourceError: the server can't be reached or does not answer in time.
        APIError: it answered with another error, or with no text.
    """
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    for place, prompt in enumerate(asked, 1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(
                f"Prompt {place} of {len(asked)} is empty, or no text: {prompt!r:.60}"
            )
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    shared: dict[str, Any] = {"model": model, "temperature": temperature, "stop": stops or None}
    if max_new_tokens is not None:
        shared["max_completion_tokens"] = whole("max_new_tokens", max_new_tokens, 1)
        # OpenAI's reasoning models refuse the older name, max_tokens. Other servers, older versions
        # of `transformers serve` among them, pass over the newer one and write without an end.
        if server and not server.address.split("/")[2].endswith((".openai.com", ".azure.com")):
            shared["max_tokens"] = max_new_tokens
    shared = {name: value for name, value in shared.items() if value is not None}
    if server is None:
        raise AuthenticationError(HOW)
    client = _connect(server, timeout, retries)
    begin = [{"role": "system", "content": system}] if system else []

    def answer(place: int) -> tuple[int, str]:
        request = shared | {"messages": [*begin, {"role": "user", "content": asked[place]}]}
        result = _text(client, server, request)
        if isinstance(result, CourseError):
            here = f"Prompt {place + 1} of {len(asked)}: " if len(asked) > 1 else ""
            raise type(result)(f"{here}{result}")
        ends = [result.find(word) for word in stops if word in result]
        return place, result[: min(ends, default=None)]

    texts = [""] * len(asked)
    told = f"{model} answers {len(asked)} prompt{'s' * (len(asked) != 1)}"
    # A ThreadPool's threads are daemons: an error or Ctrl-C waits for no other request.
    with (
        client,
        ThreadPool(whole("at_once", at_once, 1)) as pool,
        bar(len(asked), told, enabled=progress) as line,
    ):
        for place, text in _as_they_come(pool.imap_unordered(answer, range(len(asked)))):
            texts[place] = text
            line.update()
    return texts


def _as_they_come(results: Any) -> Iterator[Any]:
    """Results, waited for in short turns: Ctrl-C does not reach Windows within a long one."""
    while True:
        try:
            yield results.next(timeout=0.5)
        except multiprocessing.TimeoutError:
            continue
        except StopIteration:
            return


def _connect(server: Server, timeout: float, retries: int) -> openai.OpenAI:
    """A client for `server`; nothing is sent yet."""
    if not isinstance(server, Server) or not (server.key or server.base_url):
        raise AuthenticationError(HOW)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", server.base_url or server.address):
        raise SettingError(
            f"The server's address can't be used: {server.address}. Write it like "
            f"http://localhost:8000/v1 (base_url or {URL}), and give a key as key or {KEY}."
        )
    if not re.fullmatch("[!-~]+", server.key or "none"):
        raise AuthenticationError(f"The key has signs that no key has. Copy it again into {KEY}.")
    try:
        import openai
    except ImportError:
        raise UserError(
            "The client for hosted models is not installed. Install it: pip install "
            '"llmcourse[hosted]" (in a copy of the course: pip install -r requirements-hosted.txt).'
        ) from None
    client, wrong, again = None, "", whole("retries", retries, 0)
    try:
        client = openai.OpenAI(
            api_key=server.key or "none",
            base_url=server.base_url or server.address,
            timeout=timeout,
            max_retries=again,
        )
    except Exception as error:
        wrong = type(error).__name__
    if client is None:  # outside of `except`: the client's frames have the key
        raise SettingError(
            f"No client for {server.address} can be made ({wrong}). Look at the address, and at "
            f"the environment's settings for proxies and certificates."
        )
    return client


def _text(client: openai.OpenAI, server: Server, request: dict[str, Any]) -> str | CourseError:
    """The text to one request, or what went wrong: returned, for an error that is raised within
    `except` would carry the client's, which has the key."""
    try:
        reply = client.chat.completions.create(**request)
        choice = reply.choices[0]
        text, why = choice.message.content, choice.finish_reason
    except Exception as error:  # the client does not check what comes back: any may be raised
        kind, said = _meaning(error, request["model"], client)
    else:
        if isinstance(text, str) and (text or why == "stop"):
            return text
        kind, said = APIError, f"sent an answer without text ({choice.message.refusal or why})."
        if why == "length":
            said = "wrote no answer within max_new_tokens. A model that thinks first needs more."
    hidden = server.key or "none"
    return kind(f"{server.address} {said.replace(hidden, '…') if len(hidden) > 4 else said}")


def _meaning(error: Exception, model: str, client: openai.OpenAI) -> tuple[type[CourseError], str]:
    """Which of our errors one of the client's is, and in which words."""
    import openai

    times = f" (tried {1 + client.max_retries} times)" if client.max_retries else ""
    if isinstance(error, openai.APITimeoutError):
        return UnavailableResourceError, (
            f"gave no answer within {client.timeout:g} s{times}. Give it more time with timeout, "
            f"or ask for less with at_once and max_new_tokens."
        )
    if isinstance(error, openai.APIConnectionError):
        return UnavailableResourceError, (
            f"can't be reached{times}. Does the server run, is its address right, and is there a "
            f"network?"
        )
    if not isinstance(error, openai.APIStatusError):
        return APIError, NO_CHAT
    code, body = error.status_code, error.body
    for name in ("error", "message", "detail"):  # OpenAI's, then FastAPI's
        body = body.get(name, body) if isinstance(body, dict) else body
    said = f' ({code}). It says: "{str(body)[:300]}"' if body else f" ({code})."
    if code == 401:
        return AuthenticationError, f"refuses the key. Check {KEY}, or the key given{said}"
    if code == 403:
        return AuthenticationError, f"does not let this key use {model}{said}"
    if code == 429:
        return RateLimitError, (
            f"was asked too often{times}. Wait, ask fewer prompts at_once, or look at the "
            f"account's quota{said}"
        )
    if code == 404 and error.code == "model_not_found":
        return ModelNameError, f"has no model {model!r}; {client.base_url}models lists them{said}"
    if code == 404:
        return APIError, f"has no chat completions. Does base_url end in /v1?{said}"
    if code >= 500:
        return APIError, f"failed{times}. Check the name {model!r}, and the server's log{said}"
    return APIError, f"does not take the request{said}"
