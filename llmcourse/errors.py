"""The one family of errors a learner sees: what went wrong, and the way out."""

from __future__ import annotations

import errno
import operator
from collections.abc import Iterable, Iterator
from typing import Any


class CourseError(Exception):
    """A mistake or a missing thing that the reader can mend.

    The command line prints only the message. In a notebook, IPython calls
    `_render_traceback_` (documented under "Custom Tracebacks") and shows the message
    without a wall of frames that are not the learner's.
    """

    def _render_traceback_(self) -> list[str]:
        """The lines that a notebook shows."""
        return [f"{type(self).__name__}: {self}"]


class SettingError(CourseError):
    """An environment variable or option has a value that means nothing."""


class UnknownModel(CourseError):
    """No role, package, folder or hub name is meant by this."""


class ModelNotInstalled(CourseError):
    """The packages that carry the model are missing."""


class CorruptModel(CourseError):
    """A model file is not what it should be."""


class ModelTooLarge(CourseError):
    """The weights would not fit into this machine's memory."""


class NotFinite(CourseError):
    """A model's logits are NaN or infinite, so nothing it computes means anything."""


class HubError(CourseError):
    """The model hub can't be reached, or does not hand out this model."""


class NoSpace(CourseError):
    """The disk is full."""


class PromptError(CourseError):
    """A prompt is empty, or longer than the model can read."""


class TemplateError(CourseError):
    """A record does not have what the template asks for."""


class DataError(CourseError):
    """A data set can't be read, or a record in it has a problem."""


class ClaimError(CourseError):
    """A claim is unknown, or its numbers can't be written down."""


class NotebookError(CourseError):
    """A lesson notebook is missing, or one of its cells failed."""


class ExerciseError(CourseError):
    """An exercise was used in a way it can't be."""


# --- the names that the course's own library gave its errors; llmcourse.llama has them too --------


class UserError(CourseError):
    """The call asks for something that can't be had: an unknown model, a wrong type, no data."""


class ModelNameError(UserError):
    """There is no such model."""


class APIError(CourseError):
    """A server answered with an error, or with nothing that can be used."""


class AuthenticationError(APIError):
    """A server refused the key, or there is none."""


class RateLimitError(APIError):
    """A server was asked too often; waiting helps."""


class UnavailableResourceError(APIError):
    """What was asked for is not there now: a server that can't be reached, or too little memory."""


def whole(name: str, value: Any, least: int) -> int:
    """The setting `name` as a whole number of at least `least`.

    Raises:
        SettingError: it is none.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise SettingError(f"{name}={value!r} must be a whole number of at least {least}.")
    return number


def one_of(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """The setting `name`, if it is among the choices.

    Raises:
        SettingError: it is not; the message lists them.
    """
    choices = list(choices)
    if value not in choices:
        raise SettingError(f"{name}={value!r}: use one of {', '.join(map(str, choices))}.")
    return value


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and everything it was raised from, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none or can't say it."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception of somebody else's whose message raises
        lines = []
    return lines[0][:200] if lines else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """True for CUDA's, the CPU allocator's, the system's and Python's own ways of saying so."""
    words = ("out of memory", "can't allocate", "cannot allocate")
    return any(
        isinstance(cause, MemoryError) or any(word in str(cause).lower() for word in words)
        for cause in causes(error)
    )


def is_disk_full(error: BaseException) -> bool:
    """True where `error` comes from a full disk or an exceeded quota.

    safetensors reports a full disk in words only, so the message is looked at too.
    """
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return any(
        getattr(cause, "errno", None) in full or "No space left" in str(cause)
        for cause in causes(error)
    )
