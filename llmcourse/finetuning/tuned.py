"""What a training gives: a model that answers like any other, and what was seen on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse import encoding
from llmcourse.errors import CourseError
from llmcourse.finetuning.settings import Config
from llmcourse.models import LoadedModel


@dataclass
class TunedModel(LoadedModel):
    """A tuned model; asked and shown like any other model.

    Attributes:
        history: A row an update: step, loss (mean over its completion tokens, in nats), and how
            many tokens it read.
        held_out: A row a look: step, and the loss on the held-out records.
        samples: What the model answered to the watched prompts on the way: step, prompt, answer.
        seconds: How long training took, the looks on the way among it.
        trained: How many weights were trained.
        encoded: What it was trained on, token by token, and which records were too long.
        config: How it was trained.
        notes: What happened on the way that one should know, such as a batch that had to shrink.
        folder: Where it was saved, if it was.
        base_weights: By which the base is known again; see `models.fingerprint`.
    """

    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    samples: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    trained: int = 0
    encoded: encoding.Encoded | None = field(default=None, repr=False)
    held_out: list[dict[str, float]] = field(default_factory=list, repr=False)
    config: Config = field(default_factory=Config, repr=False)
    notes: list[str] = field(default_factory=list, repr=False)
    folder: Path | None = None
    base_weights: list[float] = field(default_factory=list, repr=False)

    @property
    def title(self) -> str:
        """A name for people and pictures."""
        return f"{super().title}, tuned"

    @property
    def tokens_per_second(self) -> float:
        """Tokens read a second in training, padding not counted."""
        read = sum(row["tokens"] for row in self.history)
        return read / self.seconds if self.seconds else 0.0

    def save(self, folder: Path | str, results: Mapping[str, Any] | None = None) -> Path:
        """Save the adapter, or the whole model, with a model card; see `finetuning.save`."""
        from llmcourse.finetuning.saving import save

        return save(self, folder, results)


class TrainingStopped(CourseError):
    """A training ended before its last update; what it had learned until then is in `model`.

    Attributes:
        model: With the last good weights.
        step: Updates done.
        by_user: True where Ctrl-C or Interrupt ended it.
    """

    def __init__(self, message: str, model: TunedModel, step: int, by_user: bool = False) -> None:
        super().__init__(message)
        self.model, self.step, self.by_user = model, step, by_user
