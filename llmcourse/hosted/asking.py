"""Prompts to a server, answers from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from llmcourse.errors import ModelNameError, PromptError, SettingError, whole
from llmcourse.hosted.replies import Call, until
from llmcourse.hosted.server import Server, connect, number
from llmcourse.progress import bar

_OPENAI = (".openai.com", ".azure.com")  # hosts that want one name of the longest answer only


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
        system: What the model is told before each question.
        max_new_tokens: Longest answer in tokens; the server's own limit if not given. For a
            model that thinks first, its thoughts count too.
        stop: Text that ends an answer, or several. It is no part of the answer, also where a
            server leaves it in.
        temperature: From 0 (the likeliest token each time) to 2; the server's own if not given.
        timeout: Seconds to wait for the server's next sign, at each try.
        retries: How often a request is sent again after a 408, 409, 429 or 5xx, a time-out or
            a lost connection. The client waits as long as the server asks for, up to 2 minutes.
        at_once: Requests on their way at the same time. A server that answers one after the
            other needs `timeout` for all of them.
        progress: False shows no progress.

    Returns:
        One text a prompt. A text may be cut off by `max_new_tokens`, and is "" where the model
        ended at once.

    Raises:
        PromptError: a prompt or `system` is empty or no text.
        SettingError: a number, `stop` or the address means nothing.
        UserError: the `openai` package is missing.
        AuthenticationError: there is no key, or the server refuses it.
        RateLimitError: the server was asked too often, after all retries.
        ModelNameError: `model` is no name, or the server says that it has no such model.
        UnavailableResourceError: the server can't be reached or does not answer in time.
        APIError: it answered with another error, or with no text.
    """
    if not isinstance(prompts, Iterable):
        raise PromptError(f"A question or a list of them is wanted, not {type(prompts).__name__}.")
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    requests = []
    for place, prompt in enumerate(asked, 1):
        here = f"Prompt {place} of {len(asked)}"
        requests.append(
            _request(prompt, model, system, max_new_tokens, stop, temperature, here=here)
        )
    whole("at_once", at_once, 1)
    call = Call(connect(server, timeout, retries), server, model)
    if not requests:
        return []
    for request in requests:
        _say_it_twice(call, request)
    texts = [""] * len(asked)
    with call.client, bar(len(asked), call.told(len(asked)), enabled=progress) as line:
        for place, text in _answered(call, requests, at_once):
            texts[place] = text
            line.update()
    return texts


def _answered(
    call: Call, requests: list[dict[str, Any]], at_once: int
) -> Iterator[tuple[int, str]]:
    """Yield each request's place and text, as they come; the first error ends it.

    The threads are daemons, which a pool's are not: whoever gives up, or gets an error, does not
    wait for the requests that are still on their way.
    """
    todo, done = deque(enumerate(requests)), SimpleQueue()

    def work() -> None:
        """Take requests until there are none."""
        while todo:
            try:
                place, request = todo.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                here = f"Prompt {place + 1} of {len(requests)}: " if len(requests) > 1 else ""
                done.put((place, call.answer(request, here)))
            except BaseException as error:
                done.put((place, error))

    for _ in range(min(at_once, len(requests))):
        Thread(target=work, daemon=True).start()
    try:
        for _ in requests:
            place, result = _next(done)
            if isinstance(result, BaseException):
                raise result
            yield place, result
    finally:
        todo.clear()


def _next(done: SimpleQueue) -> Any:
    """What comes next, waited for in short turns: Windows can't interrupt a long one."""
    while True:
        try:
            return done.get(timeout=0.5)
        except Empty:
            continue


def stream(
    prompt: str,
    model: str,
    server: Server | None,
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    temperature: float | None = None,
    timeout: float = 60.0,
    retries: int = 2,
) -> Iterator[str]:
    """The hosted model's answer in pieces, as they come; joined they are the whole answer.

    Arguments and errors are those of `ask`. Wrong arguments raise at once, the server's troubles
    where the pieces are read. Nothing is sent again once the answer has begun.
    """
    request = _request(prompt, model, system, max_new_tokens, stop, temperature, here="The prompt")
    call = Call(connect(server, timeout, retries), server, model)
    _say_it_twice(call, request)
    return until(call.pieces(request), request.get("stop", []))


def _request(
    prompt: str,
    model: str,
    system: str | None,
    max_new_tokens: int | None,
    stop: str | Sequence[str] | None,
    temperature: float | None,
    *,
    here: str,
) -> dict[str, Any]:
    """The checked body of one request."""
    if not isinstance(model, str) or not model.strip():
        raise ModelNameError(f"model={model!r} must be the name of a model at the server.")
    messages = [{"role": "user", "content": _text(here, prompt)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": _text("system", system)})
    request: dict[str, Any] = {"model": model, "messages": messages}
    if max_new_tokens is not None:
        request["max_completion_tokens"] = whole("max_new_tokens", max_new_tokens, 1)
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, Sequence) or not all(isinstance(w, str) and w for w in stops):
            raise SettingError(f"stop={stop!r} must be a text that is not empty, or some of them.")
        if stops:
            request["stop"] = [_text("stop", word, blank=True) for word in stops]
    if temperature is not None:
        request["temperature"] = number("temperature", temperature, 0, 2)
    return request


def _say_it_twice(call: Call, request: dict[str, Any]) -> None:
    """Give the longest answer in its older name too, where the server is not one of OpenAI's."""
    if "max_completion_tokens" in request and not call.client.base_url.host.endswith(_OPENAI):
        request["max_tokens"] = request["max_completion_tokens"]


def _text(name: str, text: object, *, blank: bool = False) -> str:
    """`text`, checked to be one that can be sent."""
    if not isinstance(text, str):
        raise PromptError(f"{name} must be text, not {type(text).__name__}.")
    if not blank and not text.strip():
        raise PromptError(f"{name} is empty.")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        # Half a character, from a terminal of another encoding.
        raise PromptError(f"{name} has characters that are no text. Type it again.")
    return text
