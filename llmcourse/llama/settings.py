"""The learner's choices for the course's own interface, and its notes to them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass
class Settings:
    """Choices that hold for the whole process.

    Attributes:
        substitute: True lets a packaged model substitute for one that is not available here; a note
            says so each time.
        launch_shape: True answers a list of prompts by [{"input", "output"}], as the library did in
            the month the course came out; False by a list of texts, as it did later.
        steps: The most updates of a training that does not say so itself; None is no limit.
        hosted_model: The model that "chat-gpt" means at the server; the environment variable
            `OPENAI_MODEL` if not given.
        api_key: For a server that hosts models; `OPENAI_API_KEY` if not given.
        api_url: That server's address; `OPENAI_BASE_URL` if not given.
    """

    substitute: bool = False
    launch_shape: bool = False
    steps: int | None = None
    hosted_model: str = ""
    api_key: str | None = field(default=None, repr=False)
    api_url: str | None = None

    @property
    def hosted(self) -> str:
        """The name that "chat-gpt" means; "" where none was chosen."""
        return self.hosted_model or os.environ.get("OPENAI_MODEL", "").strip()


settings = Settings()
_notes: list[dict[str, str]] = []


def note(kind: str, text: str) -> None:
    """Print what differs from what the learner wrote, and remember it.

    Args:
        kind: "substituted", "translated" or "ignored".
        text: What differs.
    """
    _notes.append({"kind": kind, "text": text})
    print(f"[{kind}] {text}")


def taken() -> list[dict[str, str]]:
    """The notes since the last call."""
    notes = list(_notes)
    _notes.clear()
    return notes
