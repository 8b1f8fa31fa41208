"""Two models answer the same prompt side by side, word by word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmcourse import pages, templates, tiers, ui
from llmcourse.errors import CourseError, SettingError, first_line
from llmcourse.generation import Answer, check_loaded, generate, stream
from llmcourse.models import LoadedModel
from llmcourse.pages import Markup
from llmcourse.progress import is_live

OWN = "each model's own"  # the choice of template
STATIC = 48  # tokens of an answer in the plain table
RECENT = 6  # answers in the plain table
EVERY = 0.1  # seconds between two changes of a text on the page


@dataclass
class Side:
    """One model's answer as it is being written.

    Attributes:
        name: The model's.
        text: What it has written so far.
        why: Why it ended, in words; "" while it is being written or waits.
        changed: When its text was last changed on the page.
    """

    name: str
    text: str = ""
    why: str = ""
    changed: float = 0.0


class Chat(ui.Threaded):
    """Ask two models the same thing, and watch both answer; the last line of a cell shows it.

    Answers come word by word from a thread, one model after the other, so the kernel stays free:
    Stop works, and so does any other cell. Each answer says why it ended.

    Where nobody is there (see `BlindVote`), a table shows the last answers; where there are none,
    it answers `prompt` in up to 48 tokens for it.

    Attributes:
        models: By name.
        history: The turns before the question.
        answers: All answers so far: prompt, name of the model, `Answer`.
        sides: The current answers.
    """

    def __init__(
        self, models: Mapping[str, LoadedModel], prompt: Any = "Tell me how to train a dog to sit"
    ) -> None:
        """Take the models.

        Args:
            models: A name to its loaded model, such as base, chat and tuned; at least one.
            prompt: What is in the prompt box at first. Of a conversation (see
                `templates.fields_of`) it is the last question; the turns before are sent with
                whatever is asked.

        Raises:
            SettingError: a model is not loaded.
            TemplateError: see `templates.fields_of`.
        """
        super().__init__()
        for model in models.values():
            check_loaded(model)
        asked = templates.fields_of(prompt)
        self.models, self.prompt = dict(models), templates.get_field(asked, "question")
        self.history = list(asked.get("history") or ())
        self.answers: list[tuple[str, str, Answer]] = []
        self.sides: list[Side] = []

    def __repr__(self) -> str:
        return f"Chat with {', '.join(self.models)}: {len(self.answers)} answers so far"

    @property
    def answering(self) -> bool:
        """Whether an answer is still being written."""
        return not all(side.why for side in self.sides)

    def ask(
        self, names: list[str], prompt: str, template: str | None = None, **settings: Any
    ) -> None:
        """Begin to answer in a thread; returns at once.

        Args:
            names: Of the models, in the order of the sides.
            prompt: The prompt.
            template: Name in `templates.NAMES`; each model's own if not given.
            settings: `max_new_tokens`, `temperature` and `seed`; see `stream`.

        Raises:
            SettingError: it is still answering.
        """
        # One model at a time: two that generate at once would share the cores and be slower.
        if self.answering:
            raise SettingError("Still answering. Press Stop first, or wait.")
        self.wait()  # the page may not show the last answer yet
        self.sides = [Side(name) for name in names]

        def work() -> None:
            for side in self.sides:
                self._answer(side, prompt, template, settings)

        self.begin(work)

    def stop(self) -> None:
        """End the answers after the current token; what is written stays."""
        self.stopping.set()

    def _answer(
        self, side: Side, prompt: str, template: str | None, settings: dict[str, Any]
    ) -> None:
        """Write one side. Nobody would see an error raised in the thread: it goes on the page."""

        def show_more(text: str) -> bool:
            side.text = text
            self._show_side(side)
            return not self.stopping.is_set()

        try:
            if self.stopping.is_set():
                side.why = "stopped by you before it began"
            else:
                model = self.models[side.name]
                answer = stream(
                    model, self._with_turns(prompt), template, more=show_more, **settings
                )
                self.answers.append((prompt, side.name, answer))
                side.text = answer.text
                side.why = why_ended(answer, stopped=self.stopping.is_set())
        except Exception as error:
            # Our own errors are written for people; of others the type says the most.
            text = str(error)
            if not isinstance(error, CourseError):
                text = f"{type(error).__name__}: {first_line(error)}"
            side.why = f"not answered. {text}"
        finally:
            self._show_side(side)

    def _with_turns(self, prompt: str) -> dict[str, Any]:
        return {"question": prompt, "history": self.history}

    # --- the page ---------------------------------------------------------------------------------

    @cached_property
    def controls(self) -> dict[str, Any]:
        """The control of each setting, by name."""
        names, number = list(self.models), "BoundedIntText"
        # The prompt is sent at once when the box is left, so that it arrives before Ask does.
        box = {"value": self.prompt, "rows": 3, "continuous_update": False}
        length = {"value": tiers.current().new_tokens, "min": 1, "max": 10**5}
        heat = {"value": 0.0, "min": 0, "max": 99, "step": 0.1}
        return {
            "left": ui.control("Dropdown", "Left", options=names),
            "right": ui.control("Dropdown", "Right", options=names, value=names[:2][-1]),
            "template": ui.control("Dropdown", "Template", options=[OWN, *templates.NAMES]),
            "prompt": ui.control("Textarea", "Prompt", "98%", **box),
            "max_new_tokens": ui.control(number, "Longest answer, tokens", "18em", **length),
            "temperature": ui.control("BoundedFloatText", "Temperature", "14em", **heat),
            "seed": ui.control(number, "Seed", "14em", value=0, min=0, max=2**31 - 1),
        }

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons "ask" and "stop"."""
        return ui.make_buttons({"ask": "Ask both", "stop": "Stop"}, self._pressed)

    def fallback(self) -> dict[str, Any]:
        recent = self.answers[-RECENT:]
        if not recent and not is_live():
            limit = min(STATIC, tiers.current().new_tokens)
            for name, model in [*self.models.items()][:2]:
                asked = self._with_turns(self.prompt)
                [answer] = generate(model, asked, max_new_tokens=limit, progress=False)
                recent.append((self.prompt, name, answer))
        rows = [[prompt, name, answer.text, why_ended(answer)] for prompt, name, answer in recent]
        columns = ["prompt", "model", "answer", "why it ended"]
        caption = "Run this cell in a notebook to ask something else."
        return ui.plain_table(columns, rows or [["nothing asked yet", "", "", ""]], caption)

    def build(self) -> Any:
        left, right, template, prompt, *settings = self.controls.values()
        if self.history:
            said = "; ".join(f"{turn['role']}: {turn['content']}" for turn in self.history)
            self.put(note=pages.status(f"Sent before the prompt: {said}"))
        return ui.column(
            ui.row(left, right, template),
            prompt,
            ui.row(*settings),
            ui.row(*self.buttons.values()),
            self.html["note"],
            ui.row(self.html["left"], self.html["right"]),
        )

    def _pressed(self, name: str) -> None:
        before = Markup(self.html["note"].value)  # made by `pages`, so it is escaped already
        if name == "stop":
            if self.answering:
                self.put(note=pages.status("Stopping after the current token …"))
            self.stop()
            return
        if not self.answering:  # what is on the page answers something else
            self.put(note=pages.status("Answering. Stop ends it."), left="", right="")
        settings = {key: box.value for key, box in self.controls.items()}
        names, template = [settings.pop("left"), settings.pop("right")], settings.pop("template")
        try:
            self.ask(names, template=None if template == OWN else template, **settings)
        except CourseError as error:
            self.put(note=before + pages.status(str(error)))

    def _show_side(self, changed: Side) -> None:
        """A side has changed: the page changes with it, but ten times a second at most."""
        now = time.monotonic()
        if not changed.why and now - changed.changed < EVERY:
            return
        changed.changed = now
        for place, side in zip(("left", "right"), self.sides, strict=False):
            # "(no text)" is for an answer that ended empty; one that waits shows dots.
            page = ui.part(side.name, side.text)
            if not side.text and not side.why:
                page = pages.section(side.name, pages.fill("<div>…</div>"))
            why = f"{side.name}: {side.why.rstrip('.')}." if side.why else ""
            self.put(**{place: page + pages.status(why)})
        if not self.answering:
            stopped = any(side.why.startswith("stopped by you") for side in self.sides)
            self.put(note=pages.status("Stopped." if stopped else "Done."))


def why_ended(answer: Answer, *, stopped: bool = False) -> str:
    """Why an answer ended, in words."""
    count = f"{answer.new_tokens} token{'s' * (answer.new_tokens != 1)}"
    if answer.finished:
        return f"ended by itself after {count}, with its end token"
    return f"stopped by you after {count}" if stopped else f"cut off at the limit of {count}"
