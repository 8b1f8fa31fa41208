"""A model, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmcourse import templates
from llmcourse.errors import SettingError
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel


@dataclass(frozen=True)
class Way:
    """A model and how it is asked: what is compared where one asks "prompt, retrieve or tune?".

    Attributes:
        model: From `models.load`, or a tuned one.
        template: Name in `templates.NAMES`; the model's own if not given.
        system: What the model is told before each question.
        prompt: Makes what is asked from a record: with examples before the question, or with
            passages (`retrieval.prompt_with`). Without it the question is asked as it is.
    """

    model: LoadedModel = field(repr=False)
    template: str | None = None
    system: str | None = None
    prompt: Callable[[Mapping[str, Any]], str] | None = None

    def __post_init__(self) -> None:
        check_loaded(self.model)
        if self.template is not None:
            templates.find(self.template)
        if not isinstance(self.system, str | None):
            raise SettingError(f"system={self.system!r:.60} must be text, or None.")
        if self.prompt is not None and not callable(self.prompt):
            raise SettingError(
                f"prompt={self.prompt!r:.60} must be a function that makes a prompt of a record."
            )

    @classmethod
    def of(cls, given: Any) -> Way:
        """`given` itself, or the plain way to ask a model.

        Raises:
            SettingError: it is neither a way nor a model.
        """
        return given if isinstance(given, Way) else cls(given)

    @property
    def rendered_with(self) -> str:
        """The name of the template in force."""
        return self.template or self.model.template

    def asked(self, record: Mapping[str, Any]) -> Any:
        """What `generation.generate` is given for a record."""
        if self.prompt is None:
            return record
        text = self.prompt(record)
        if not isinstance(text, str):
            raise SettingError(f"prompt must make a text, not {type(text).__name__}.")
        return text
