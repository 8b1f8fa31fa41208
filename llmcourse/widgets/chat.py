"""Two models answer the same prompt side by side, word by word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates, tiers
from llmcourse.errors import CourseError, SettingError, first_line
from llmcourse.generation import Answer, check_loaded, generate
from llmcourse.models import LoadedModel
from llmcourse.widgets.shared import (
    Shown,
    buttons,
    halves,
    is_live,
    narrow,
    part,
    row,
    section,
    status,
    wide,
)  # fmt: skip
from llmcourse.widgets.streaming import stream

if TYPE_CHECKING:
    import ipywidgets

OWN = "each model's own"  # the choice of template
STATIC = 48  # tokens of an answer where nobody is there to ask for more
_EVERY = 0.1  # seconds between two changes of a text on the page


@dataclass
class Side:
    """One model's answer as it is being written.

    Attributes:
        name: Whose.
        text: What is there so far.
        why: Why it ended, in words; "" while it is being written or waits.
        answer: The whole, once it has ended without an error.
    """

    name: str
    text: str = ""
    why: str = ""
    answer: Answer | None = None


class Talk:
    """Asks models in a thread, one after the other, so that the kernel stays free.

    Attributes:
        models: By name.
        sides: The answers at hand.
        answers: All answers so far: prompt, name of the model, `Answer`.
    """

    def __init__(self, models: Mapping[str, LoadedModel]) -> None:
        """Take the models.

        Raises:
            SettingError: there are none, or one is not loaded.
        """
        if not isinstance(models, Mapping) or not models:
            raise SettingError('models must map names to models, such as {"base": base}.')
        for model in models.values():
            check_loaded(model)
        self.models = {str(name): model for name, model in models.items()}
        self.sides: list[Side] = []
        self.answers: list[tuple[str, str, Answer]] = []
        self._stop, self._thread = threading.Event(), None

    @property
    def running(self) -> bool:
        """Whether an answer is being written."""
        return self._thread is not None and self._thread.is_alive()

    def ask(
        self,
        names: list[str],
        prompt: str,
        template: str | None = None,
        *,
        changed: Callable[[int], None] = lambda place: None,
        **settings: Any,
    ) -> None:
        """Begin to answer; returns at once.

        Args:
            names: Of the models, in the order of the sides.
            prompt: What is asked.
            template: Name in `templates.NAMES`; each model's own if not given.
            changed: Called, in the thread, with the number of a side that has changed.
            settings: `max_new_tokens`, `temperature` and `seed`; see `stream`.

        Raises:
            SettingError: it is still answering, or there is no such model.
        """
        if self.running:
            raise SettingError("Still answering. Press Stop first, or wait.")
        if unknown := [name for name in names if name not in self.models]:
            raise SettingError(
                f"There is no model {unknown[0]!r}. There are: {', '.join(self.models)}."
            )
        self._stop.clear()
        self.sides = [Side(name) for name in names]

        def run() -> None:
            for place, side in enumerate(self.sides):
                self._answer(side, prompt, template, settings, lambda place=place: changed(place))

        self._thread = threading.Thread(target=run, name="llmcourse chat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the answers after the token at hand; what is written stays."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the answers, at most so long; returns whether they have ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _answer(
        self, side: Side, prompt: str, template: str | None, settings: Any, told: Callable[[], None]
    ) -> None:
        def more(text: str) -> bool:
            side.text = text
            told()
            return not self._stop.is_set()

        try:
            if self._stop.is_set():
                side.why = "stopped by you before it began"
                return
            answer = stream(self.models[side.name], prompt, template, more=more, **settings)
            side.text, side.answer = answer.text, answer
            self.answers.append((prompt, side.name, answer))
            side.why = why_ended(answer, stopped=self._stop.is_set())
        except CourseError as error:
            side.why = f"not answered. {error}"
        except Exception as error:  # told on the page: in a thread nobody would see it
            side.why = f"not answered. {type(error).__name__}: {first_line(error)}"
        finally:
            told()


def why_ended(answer: Answer, *, stopped: bool = False) -> str:
    """Why an answer ended, in words."""
    count = f"{answer.new_tokens} token{'s' * (answer.new_tokens != 1)}"
    if answer.finished:
        return f"ended by itself after {count}, with its end token"
    return f"stopped by you after {count}" if stopped else f"cut off at the limit of {count}"


class Chat(Shown):
    """Ask two models the same thing, and watch both answer; the last line of a cell shows it.

    Answers come word by word from a thread, so the kernel stays free: Stop works, and so does any
    other cell. Each answer says why it ended. All are kept in `talk.answers`.

    Where nobody is there (see `BlindVote`), a table shows what was asked so far; where nothing
    was, it answers `prompt` in up to 48 tokens for it.
    """

    def __init__(
        self, models: Mapping[str, LoadedModel], prompt: str = "Tell me how to train a dog to sit"
    ) -> None:
        """Take the models.

        Args:
            models: A name to its loaded model, such as base, chat and tuned.
            prompt: What stands in the prompt box at first.

        Raises:
            SettingError: there are no models, or one is not loaded.
        """
        self.talk, self.prompt = Talk(models), prompt

    def __repr__(self) -> str:
        return f"Chat with {', '.join(self.talk.models)}: {len(self.talk.answers)} answers so far"

    def _make(self) -> _Page:
        return _Page(self.talk, self.prompt)

    def _show_plain(self) -> None:
        shown = [(prompt, name, answer) for prompt, name, answer in self.talk.answers[-6:]]
        if not shown and not is_live():
            limit = min(STATIC, tiers.current().new_tokens)
            for name, model in [*self.talk.models.items()][:2]:
                [answer] = generate(model, self.prompt, max_new_tokens=limit, progress=False)
                shown.append((self.prompt, name, answer))
        plots.table(
            [[prompt, name, answer.text, why_ended(answer)] for prompt, name, answer in shown]
            or [["nothing asked yet", "", "", ""]],
            ["prompt", "model", "answer", "why it ended"],
            caption="Run this cell in a notebook to ask something else.",
        )


class _Page:
    """The controls, and the two answers.

    Attributes:
        box: The whole.
        controls: The control of each setting, by name.
        buttons: "ask" and "stop".
    """

    def __init__(self, talk: Talk, prompt: str) -> None:
        import ipywidgets as w

        self._talk, self._last = talk, {}
        names, limit = list(talk.models), tiers.current().new_tokens
        other = names[min(1, len(names) - 1)]
        small = narrow("14em")
        self.controls: dict[str, ipywidgets.Widget] = {
            "left": w.Dropdown(description="Left", options=names, value=names[0], **narrow()),
            "right": w.Dropdown(description="Right", options=names, value=other, **narrow()),
            "prompt": w.Textarea(description="Prompt", value=prompt, rows=3,
                                 continuous_update=False, **wide()),  # whole before Ask is heard
            "template": w.Dropdown(description="Template", options=[OWN, *templates.NAMES],
                                   value=OWN, **narrow()),
            "max_new_tokens": w.BoundedIntText(description="Longest answer, tokens", value=limit,
                                               min=1, max=100_000, **narrow("18em")),
            "temperature": w.BoundedFloatText(description="Temperature", value=0.0, min=0,
                                              max=99, step=0.1, **small),
            "seed": w.BoundedIntText(description="Seed", value=0, min=0, max=2**31 - 1, **small),
        }  # fmt: skip
        self.buttons = buttons({"ask": "Ask both", "stop": "Stop"}, self._pressed)
        self._sides, self._note = halves(), w.HTML()
        c = self.controls
        self.box = w.VBox([
            row(c["left"], c["right"], c["template"]), c["prompt"],
            row(c["max_new_tokens"], c["temperature"], c["seed"]), row(*self.buttons.values()),
            self._note, row(*self._sides),
        ])  # fmt: skip

    def _pressed(self, name: str) -> None:
        if name == "stop":
            if self._talk.running:
                self._note.value = status("Stopping after the token at hand …")
            self._talk.stop()
            return
        value = {key: control.value for key, control in self.controls.items()}
        template = None if value["template"] == OWN else value["template"]
        settings = {key: value[key] for key in ("max_new_tokens", "temperature", "seed")}
        before, self._note.value = self._note.value, status("Answering. Stop ends it.")
        if not self._talk.running:
            for side in self._sides:  # what stood there was the answer to something else
                side.value = ""
        try:
            self._talk.ask([value["left"], value["right"]], value["prompt"], template,
                           changed=self._changed, **settings)  # fmt: skip
        except CourseError as error:
            self._note.value = before if self._talk.running else ""
            self._note.value += status(str(error))

    def _changed(self, place: int) -> None:
        """A side has changed; in the thread. The page is told ten times a second at most."""
        side, now = self._talk.sides[place], time.monotonic()
        if not side.why and now - self._last.get(place, 0.0) < _EVERY:
            return
        self._last[place] = now
        self._fill()

    def _fill(self) -> None:
        for pane, side in zip(self._sides, self._talk.sides, strict=False):
            if side.text or side.answer:
                page = part(side.name, side.text)
            else:
                page = section(side.name, "" if side.why else "<div>…</div>")
            pane.value = page + status(f"{side.name}: {side.why.rstrip('.')}." if side.why else "")
        if all(side.why for side in self._talk.sides):
            halted = any(side.why.startswith("stopped by you") for side in self._talk.sides)
            self._note.value = status("Stopped." if halted else "Done.")
