"""The one family of errors that a learner sees: each says what went wrong, and what to do."""

from __future__ import annotations

import errno
import operator
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any


class CourseError(Exception):
    """An error that the user can fix.

    The command line prints only the message. In a notebook, IPython calls
    `_render_traceback_` (documented under "Custom Tracebacks") and shows the message without
    the frames of our own code.
    """

    def _render_traceback_(self) -> list[str]:
        """The lines that a notebook shows."""
        return [f"{type(self).__name__}: {self}"]


class SettingError(CourseError):
    """An environment variable or option has an invalid value."""


class UnknownModel(CourseError):
    """The name is no role, packaged model, folder or hub name."""


class ModelNotInstalled(CourseError):
    """The packages with the model's files are missing."""


class CorruptModel(CourseError):
    """A model file is damaged."""


class ModelTooLarge(CourseError):
    """The weights do not fit into this machine's memory."""


class NotFinite(CourseError):
    """A model's logits are NaN or infinite, so nothing it computes means anything."""


class HubError(CourseError):
    """The model hub can't be reached, or does not serve this model."""


class NoSpace(CourseError):
    """The disk is full."""


class PromptError(CourseError):
    """A prompt is empty, or longer than the model can read."""


class TemplateError(CourseError):
    """A record does not have what the template asks for."""


class DataError(CourseError):
    """A data set can't be read, or a record in it has a problem."""


class ClaimError(CourseError):
    """A claim is unknown, or its numbers can't be recorded."""


class NotebookError(CourseError):
    """A lesson notebook is missing, or one of its cells failed."""


class ExerciseError(CourseError):
    """An exercise was used in a wrong way."""


# --- the names that the course's own library gave its errors; llmcourse.llama has them too --------


class UserError(CourseError):
    """The call can't be served: an unknown model, a wrong type, no data."""


class ModelNameError(UserError):
    """There is no such model."""


class APIError(CourseError):
    """A server answered with an error, or with nothing that can be used."""


class AuthenticationError(APIError):
    """A server refused the key, or no key is set."""


class RateLimitError(APIError):
    """A server got too many requests; waiting helps."""


class UnavailableResourceError(APIError):
    """Not available now: a server can't be reached, or memory is too small."""


def whole(name: str, value: Any, least: int) -> int:
    """Check that the setting `name` is a whole number of at least `least`, and return it.

    Raises:
        SettingError: it is not.
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
    """The first line of an error's message, or its type where it has no message."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # a learner's own exception class may fail to print
        lines = []
    return lines[0][:200] if lines else type(error).__name__


# Two libraries give the system's answer in words alone, without a type or an error number; each
# has a test in tests/test_files.py that fails when the words change:
# torch's CPU allocator and its MPS backend raise a bare RuntimeError ...
_TORCH_OUT_OF_MEMORY = re.compile("out of memory|can't allocate", re.IGNORECASE)
# ... and safetensors, written in Rust, a SafetensorError that ends in "(os error 28)".
_SAFETENSORS_OS_ERROR = re.compile(r"\(os error (\d+)\)")
# A full disk or an exceeded quota; 112 is Windows' own number. (EDQUOT does not exist there.)
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), 112}


def is_out_of_memory(error: BaseException) -> bool:
    """True where memory ran out: the GPU's, or this machine's."""
    torch = sys.modules.get("torch")  # not imported yet: no error of its own either
    kinds = (MemoryError, *([torch.OutOfMemoryError] if torch else []))
    return any(
        isinstance(cause, kinds)
        or getattr(cause, "errno", None) == errno.ENOMEM
        or (isinstance(cause, RuntimeError) and _TORCH_OUT_OF_MEMORY.search(str(cause)))
        for cause in causes(error)
    )


def is_disk_full(error: BaseException) -> bool:
    """True where `error` comes from a full disk or an exceeded quota."""
    for cause in causes(error):
        number = getattr(cause, "errno", None)
        if number is None and (words := _SAFETENSORS_OS_ERROR.search(str(cause))):
            number = int(words[1])
        if number in _DISK_FULL:
            return True
    return False
