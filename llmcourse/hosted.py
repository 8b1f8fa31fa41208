"""Prompts a model behind a server with OpenAI's chat completions interface.

Such a server is a paid service, a company's own, or one on this machine: `transformers serve`,
vLLM, llama.cpp and Ollama all have this interface. The official `openai` client connects, waits and
retries; it is optional: `pip install "llmcourse[hosted]"`.

Our errors never contain the key, nor does a notebook that shows them. The client's errors keep the
request with its headers, so ours are raised outside of their `except`; a key that a server repeats
is masked.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmcourse import colab
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
    """Where a hosted model is; its repr never shows the key.

    Attributes:
        base_url: The server's address, up to and with /v1; None is OpenAI.
        key: The key; None sends "none", which a server of your own accepts.
    """

    base_url: str | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def found(cls, key: str | None = None, base_url: str | None = None) -> Server | None:
        """The server that the arguments name, else the environment; None if neither does.

        As in the `openai` client, key and address are found independently: a key in the
        environment is sent to whatever address is given. On Colab its secrets are looked at too.

        Args:
            key: Else OPENAI_API_KEY. One given as "" counts as not given.
            base_url: Else OPENAI_BASE_URL. An address alone is enough.

        Raises:
            SettingError: Colab has such a secret, and this notebook may not read it.
        """
        url = (base_url or "").strip() or os.environ.get(URL, "").strip() or colab.secret(URL)
        key = (key or "").strip() or os.environ.get(KEY, "").strip() or colab.secret(KEY)
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
        temperature: 0 is greedy decoding; the server's own if not given.
        timeout: Seconds to wait for the server, at each try.
        retries: How often the client repeats a request after a 408, 409, 429 or 5xx, a time-out
            or a lost connection.
        at_once: Concurrent requests. A server that handles one at a time needs `timeout` for all
            of them.
        progress: False shows no progress.

    Returns:
        One text per prompt. A text may be cut off by `max_new_tokens`, and is "" where the model
        stopped at once.

    Raises:
        PromptError: a prompt is empty or no text.
        SettingError: a number or the address means nothing.
        UserError: the `openai` package is missing.
        AuthenticationError: there is no key, or the server refuses it.
        RateLimitError: too many requests, after all retries.
        ModelNameError: the server says that it has no such model.
        UnavailableResourceError: the server can't be reached or does not answer in time.
        APIError: it answered with another error, or with no text.
    """
    questions = [prompts] if isinstance(prompts, str) else list(prompts)
    total = len(questions)
    for number, prompt in enumerate(questions, 1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(f"Prompt {number} of {total} is empty, or no text: {prompt!r:.60}")
    if server is None:
        raise AuthenticationError(HOW)
    client = _connect(server, timeout, retries)  # checks the address too
    # What is not given is not sent, so that the server's own default holds.
    shared: dict[str, Any] = {"model": model, "temperature": temperature}
    if max_new_tokens is not None:
        shared["max_completion_tokens"] = whole("max_new_tokens", max_new_tokens, 1)
        # OpenAI's reasoning models refuse the older name, max_tokens. Other servers, older versions
        # of `transformers serve` among them, ignore the newer one and generate without a limit.
        if not server.address.split("/")[2].endswith((".openai.com", ".azure.com")):
            shared["max_tokens"] = max_new_tokens
    shared = {name: value for name, value in shared.items() if value is not None}
    begin = [{"role": "system", "content": system}] if system else []

    def answer(index: int) -> str:
        request = shared | {"messages": [*begin, {"role": "user", "content": questions[index]}]}
        result = _text(client, server, request)
        if isinstance(result, CourseError):
            raise type(result)(f"Prompt {index + 1} of {total}: {result}" if total > 1 else result)
        return result

    texts: list[str] = []
    title = f"{model} answers {total} prompt{'s' * (total != 1)}"
    # A ThreadPool's threads are daemons: an error or Ctrl-C waits for no other request.
    with (
        client,
        ThreadPool(whole("at_once", at_once, 1)) as pool,
        bar(total, title, enabled=progress) as line,
    ):
        results = pool.imap(answer, range(total))
        while len(texts) < total:
            # In short turns: on Windows, Ctrl-C does not interrupt a long wait.
            with suppress(multiprocessing.TimeoutError):
                texts.append(results.next(timeout=0.5))
                line.update()
    return texts


def _connect(server: Server, timeout: float, retries: int) -> openai.OpenAI:
    """A client for `server`; nothing is sent yet."""
    if not isinstance(server, Server) or not (server.key or server.base_url):
        raise AuthenticationError(HOW)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", server.base_url or server.address):
        raise SettingError(
            f"The server's address can't be used: {server.address}. Write it like "
            f"http://localhost:8000/v1 (base_url or {URL}), and give a key as key or {KEY}."
        )
    # HTTP headers take visible ASCII only; a key with a line end would start another header.
    if not re.fullmatch("[!-~]+", server.key or "none"):
        raise AuthenticationError(
            f"The key has characters that no key has. Copy it again into {KEY}."
        )
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
    """The text for one request, or the error, returned: one that is raised within `except` would
    carry the client's error, which has the key."""
    try:
        reply = client.chat.completions.create(**request)
        choice = reply.choices[0]
        text, why = choice.message.content, choice.finish_reason
    except Exception as error:  # the client does not check replies, so any error may come
        kind, said = _meaning(error, request["model"], client)
    else:
        if isinstance(text, str) and (text or why == "stop"):
            return text
        kind, said = APIError, f"sent an answer without text ({choice.message.refusal or why})."
        if why == "length":
            said = "wrote no answer within max_new_tokens. A model that thinks first needs more."
    # Some servers repeat the key in their message; a short one could be part of any word.
    hidden = server.key or "none"
    return kind(f"{server.address} {said.replace(hidden, '…') if len(hidden) > 4 else said}")


def _meaning(error: Exception, model: str, client: openai.OpenAI) -> tuple[type[CourseError], str]:
    """Our error for one of the client's, and its message."""
    import openai

    times = f" (tried {1 + client.max_retries} times)" if client.max_retries else ""
    if isinstance(error, openai.APITimeoutError):
        return UnavailableResourceError, (
            f"gave no answer within {client.timeout:g} s{times}. Give it more time with timeout, "
            f"or less work with at_once and max_new_tokens."
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
    reply = f' ({code}). It says: "{str(body)[:300]}"' if body else f" ({code})."
    kind: type[CourseError] = APIError
    text = "does not accept the request"
    if code == 401:
        kind, text = AuthenticationError, f"refuses the key. Check {KEY}, or the key given"
    elif code == 403:
        kind, text = AuthenticationError, f"does not let this key use {model}"
    elif code == 429:
        kind = RateLimitError
        text = f"got too many requests{times}. Wait, lower at_once, or look at the account's quota"
    elif code == 404 and error.code == "model_not_found":
        kind, text = ModelNameError, f"has no model {model!r}; {client.base_url}models lists them"
    elif code == 404:
        text = "has no chat completions. Does base_url end in /v1?"
    elif code >= 500:
        text = f"failed{times}. Check the name {model!r}, and the server's log"
    return kind, text + reply
