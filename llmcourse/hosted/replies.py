"""What a server sends back: an answer, or one of our errors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.errors import (
    APIError,
    AuthenticationError,
    CourseError,
    ModelNameError,
    RateLimitError,
    UnavailableResourceError,
)
from llmcourse.hosted.server import KEY, Server, shown

if TYPE_CHECKING:
    import openai

NO_CHAT = (
    "answered with something that is no chat completion. Is base_url the address of an "
    "OpenAI-compatible server? It usually ends in /v1."
)
TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2")  # what the client sends with


@dataclass(frozen=True, repr=False)
class Call:
    """One server, asked for one model.

    Attributes:
        client: From `connect`.
        server: What it was made from; its key is blotted out of messages.
        model: The model's name.
    """

    client: openai.OpenAI
    server: Server
    model: str

    @property
    def address(self) -> str:
        """The server's address, as messages show it."""
        return shown(str(self.client.base_url))

    def told(self, count: int) -> str:
        """What the progress line says."""
        name = self.model.rstrip("/\\").replace("\\", "/").rsplit("/")[-1]
        return self._blotted(f"{name} answers {count} prompt{'s' * (count != 1)}")

    def answer(self, request: dict[str, Any], here: str) -> str:
        """The text to one request; `here` stands before an error's message."""
        failure, text, reply = None, "", None
        try:
            reply = self.client.chat.completions.create(**request)
        except Exception as error:
            failure = self._translated(error)
        if failure is None:
            choice = _first(reply)
            text = getattr(getattr(choice, "message", None), "content", None)
            failure = self._empty(choice, text)
        if failure is not None:
            # Outside of `except`: the client's error, with its request, is no part of ours.
            raise type(failure)(f"{here}{failure}")
        return "".join(until((part for part in [text]), request.get("stop", [])))

    def pieces(self, request: dict[str, Any]) -> Generator[str]:
        """The text to one request, as it comes."""
        failure, length, last, events = None, 0, None, 0
        with self.client:
            try:
                with self.client.chat.completions.create(**request, stream=True) as replies:
                    for reply in replies:
                        choice = _first(reply)
                        piece = getattr(getattr(choice, "delta", None), "content", None)
                        if choice is not None:
                            events += 1
                            last = choice if getattr(choice, "finish_reason", None) else last
                        if isinstance(piece, str) and piece:
                            length += len(piece)
                            yield piece
            except Exception as error:
                failure = self._translated(error, length if events else None)
        if failure is None and not events:
            failure = self._error(APIError, NO_CHAT)
        elif failure is None and last is None:
            failure = self._broken(length)
        elif failure is None and not length:
            failure = self._empty(last, "")
        if failure is not None:
            raise failure

    def _empty(self, choice: object, text: object) -> CourseError | None:
        """The error of an answer without text, unless the model itself ended it at once."""
        if choice is None or not (text is None or isinstance(text, str)):
            return self._error(APIError, NO_CHAT)
        why = getattr(choice, "finish_reason", None)
        if text or (text == "" and why == "stop"):
            return None
        if why == "length":
            return self._error(
                APIError,
                "wrote no answer within max_new_tokens. A model that thinks first needs more.",
            )
        refusal = getattr(getattr(choice, "message", None), "refusal", None)
        said = f": {refusal}" if isinstance(refusal, str) and refusal else f" ({why})."
        return self._error(APIError, f"sent an answer without text{said}")

    def _broken(self, length: int) -> CourseError:
        """The error of an answer that stopped coming after `length` characters."""
        return self._error(
            UnavailableResourceError,
            f"broke off in the middle of the answer, after {length} characters. Ask again.",
        )

    def _error(self, kind: type[CourseError], text: str) -> CourseError:
        """One of our errors, which names the server and not the key."""
        return kind(self._blotted(f"{self.address} {text}"))

    def _blotted(self, text: str) -> str:
        """`text` without the key; words as short as "none" are no secret."""
        key = (self.server.key or "").strip()
        return text.replace(key, "…") if len(key) > 4 else text

    def _translated(self, error: Exception, length: int | None = None) -> CourseError:
        """The client's error as one of ours.

        Args:
            error: What the client raised.
            length: Characters that had come, where the answer had begun.
        """
        import openai

        name = type(error).__name__
        code = error.status_code if isinstance(error, openai.APIStatusError) else None
        said = _words(self._blotted, error)
        tries = 1 + self.client.max_retries
        times = f" (tried {tries} times)" if tries > 1 and length is None else ""
        transport = type(error).__module__.split(".")[0] in TRANSPORTS
        if isinstance(error, openai.APITimeoutError) or (transport and "Timeout" in name):
            return self._error(
                UnavailableResourceError,
                f"gave no sign for {self.client.timeout:g} s{times}. Give it more time with "
                f"timeout, or ask for less with at_once and max_new_tokens.",
            )
        if isinstance(error, openai.APIConnectionError) or transport:
            if length is not None:
                return self._broken(length)
            return self._error(
                UnavailableResourceError,
                f"can't be reached{times}. Does the server run, is its address right, and is "
                f"there a network?",
            )
        if code == 401:
            return self._error(
                AuthenticationError, f"refuses the key (401). Check {KEY}, or the key given.{said}"
            )
        if code == 403:
            return self._error(
                AuthenticationError, f"does not let this key use {self.model} (403).{said}"
            )
        if code == 429:
            return self._error(
                RateLimitError,
                f"says it was asked too often{times} (429). Wait a while, ask fewer prompts "
                f"at_once, or look at the account's quota.{said}",
            )
        if code == 404 and ("model" in said.lower() or error.code == "model_not_found"):
            return self._error(
                ModelNameError,
                f"has no model {self.model!r} (404). The names it knows are under "
                f"{self.address}/models.{said}",
            )
        if code == 404:
            return self._error(
                APIError, f"has no chat completions (404). Does base_url end in /v1?{said}"
            )
        if code is not None and code >= 500:
            return self._error(
                APIError,
                f"failed{times} ({code}). Where other models work, check the name "
                f"{self.model!r}; the server's log says more.{said}",
            )
        if code is not None and code >= 400:
            return self._error(APIError, f"does not take the request ({code}).{said}")
        if isinstance(error, openai.APIError) and length is not None:
            return self._error(APIError, f"broke off with an error of its own.{said}")
        return self._error(APIError, f"{NO_CHAT} ({name})")


def _first(reply: object) -> Any:
    """A reply's first choice; None where there is none. The client does not check replies."""
    choices = getattr(reply, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if hasattr(first, "message") or hasattr(first, "delta") else None


def _words(blotted: Callable[[str], str], error: Exception) -> str:
    """What the server said about its error, as a sentence to put behind ours; at most 300 signs."""
    body = getattr(error, "body", None)
    for name in ("error", "message", "detail"):  # OpenAI's, then FastAPI's
        body = body.get(name, body) if isinstance(body, dict) else body
    if not isinstance(body, str) or not body.strip():
        return ""
    return f' It says: "{blotted(" ".join(body.split()))[:300]}"'


def until(pieces: Generator[str], stops: Sequence[str]) -> Iterator[str]:
    """Pass on what comes before the stop word that is complete first.

    What may be the beginning of a stop word is held back until more has come.
    """
    held, most = "", max(map(len, stops), default=1) - 1
    with closing(pieces):
        for piece in pieces:
            held += piece
            found = [(held.find(word), word) for word in stops if word in held]
            if found:
                held = held[: min((place + len(word), place) for place, word in found)[1]]
                break
            if len(held) > most:
                yield held[: len(held) - most]
                held = held[len(held) - most :]
    if held:
        yield held
