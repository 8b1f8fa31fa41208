"""The mistakes of an evaluation: filtered, sorted, read and labelled anew."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation.agreement import (
    Agreement,
    agreement_by_class,
    jsonl,
    load_labels,
    save_labels,
)
from llmcourse.evaluation.metrics import METRICS
from llmcourse.evaluation.mistakes import KINDS, counted
from llmcourse.evaluation.running import Evaluation
from llmcourse.widgets.shared import (
    DOUBLE,
    Shown,
    buttons,
    cut,
    halves,
    narrow,
    once,
    part,
    row,
    status,
    told,
)

if TYPE_CHECKING:
    import ipywidgets

_SHOWN = 8  # answers in the plain table
AS_ASKED = "as asked"
FILTERS = ("all", "any mistake", "no mistake", *KINDS, "failed", "labelled", "not labelled")


class Mistakes:
    """An evaluation's answers with the kinds of mistakes that a rule, or a person, sees in them.

    A person's labels belong to a question with its answer: the same question with another model's
    answer has labels of its own, in the same file.

    Attributes:
        evaluation: From `evaluation.evaluate`.
        path: The file with people's labels, as `evaluation.save_labels` keeps them.
        who: Whose labels are shown and kept.
        mine: Number of a record -> this person's labels of its answer.
    """

    def __init__(self, evaluation: Evaluation, path: Path | str, who: str = "me") -> None:
        """Read the labels so far; see `ErrorBrowser`."""
        if not isinstance(evaluation, Evaluation):
            raise SettingError(
                f"What evaluation.evaluate gives is wanted, not {type(evaluation).__name__}."
            )
        if not isinstance(who, str) or not who.strip():
            raise DataError(f"who={who!r:.60} must be a name for whoever gives the labels.")
        self.evaluation, self.path, self.who = evaluation, jsonl(path), who
        self._keys = [
            "" if answer is None else f"{self.question(place)}\n→ {answer.text}"
            for place, answer in enumerate(evaluation.answers)
        ]
        everyone = load_labels(self.path) if self.path.exists() else {}
        theirs = everyone.get(who, {})
        self.mine: dict[int, list[str]] = {}
        for place, key in enumerate(self._keys):
            if key and key in theirs:
                found = theirs[key]
                if not isinstance(found, list) or not set(found) <= set(KINDS):
                    raise DataError(
                        f"{self.path}: {who} gave {found!r:.60} to an answer of this evaluation. "
                        f"A list of kinds of mistakes is wanted: {', '.join(KINDS)}."
                    )
                self.mine[place] = found

    def question(self, place: int) -> str:
        """What was asked, its input among it."""
        record = self.evaluation.records[place]
        texts = (templates.get_field(record, role, needed=False) for role in ("question", "input"))
        return "\n".join(filter(None, texts))

    def labels(self, place: int) -> list[str]:
        """The kinds of mistakes of an answer: the person's where there are any, else the rule's."""
        return self.mine.get(place, self.evaluation.labels[place])

    def counts(self) -> dict[str, int]:
        """How many answers each of `FILTERS` leaves."""
        return {name: len(self.places(name)) for name in FILTERS}

    def places(self, kind: str = "all", by: str = AS_ASKED) -> list[int]:
        """The numbers of the records that a filter leaves, in order.

        Args:
            kind: One of `FILTERS`.
            by: "as asked", or a metric that was measured: the worst first, those without a number
                last.

        Raises:
            SettingError: there is no such filter, or the metric was not measured.
        """
        if kind not in FILTERS:
            raise SettingError(f"There is no {kind!r}. There are: {', '.join(FILTERS)}.")
        answers = self.evaluation.answers
        wanted = {
            "all": lambda place: True,
            "any mistake": lambda place: bool(self.labels(place)),
            "no mistake": lambda place: answers[place] is not None and not self.labels(place),
            "failed": lambda place: answers[place] is None,
            "labelled": lambda place: place in self.mine,
            "not labelled": lambda place: answers[place] is not None and place not in self.mine,
        }.get(kind, lambda place: kind in self.labels(place))
        found = [place for place in range(len(answers)) if wanted(place)]
        if by == AS_ASKED:
            return found
        values = self.evaluation.values(by)
        sign = -1 if METRICS[by].better == "low" else 1
        return sorted(found, key=lambda p: (math.isnan(values[p]), sign * values[p]))

    def relabel(self, place: int, kinds: list[str]) -> None:
        """Give an answer a person's labels, and keep them.

        Args:
            place: The number of its record, from 0.
            kinds: Some of `KINDS`; none where nothing is wrong with it.

        Raises:
            SettingError: there is no such kind.
            DataError: the record was not answered, or the labels can't be kept; they don't count
                then.
            NoSpace: the disk is full; the same.
        """
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise SettingError(f"There is no {unknown[0]!r}. There are: {', '.join(KINDS)}.")
        if not self._keys[place]:
            raise DataError("This record failed: there is no answer to label.")
        found = [kind for kind in KINDS if kind in kinds]
        save_labels(self.path, {self._keys[place]: found}, self.who)
        for other, key in enumerate(self._keys):
            if key == self._keys[place]:
                self.mine[other] = found

    def agreement(self) -> dict[str, Agreement]:
        """How far the person and the rule agree, on what the person has labelled; {} for nothing.

        See `evaluation.agreement_by_class`.
        """
        if not self.mine:
            return {}
        rule = {place: self.evaluation.labels[place] for place in self.mine}
        return agreement_by_class(self.mine, rule)


class ErrorBrowser(Shown):
    """Read an evaluation's answers kind by kind and mend their labels; a cell's last line shows it.

    Each label that is ticked, and each "Labels are right", is in the file at once, as
    `evaluation.save_labels` keeps it: `load_labels` reads it, and two people's labels in one file
    can be compared. Where nobody is there (see `BlindVote`), a table shows the answers with
    mistakes.
    """

    def __init__(self, evaluation: Evaluation, path: Path | str, who: str = "me") -> None:
        """Read the labels so far.

        Args:
            evaluation: From `evaluation.evaluate`.
            path: A .jsonl file for the labels, there already or not.
            who: A name for whoever labels.

        Raises:
            SettingError: `evaluation` is none.
            DataError: `who` is blank, or the file has other things than labels in it.
        """
        self.mistakes = Mistakes(evaluation, path, who)

    def __repr__(self) -> str:
        found = self.mistakes
        return (
            f"ErrorBrowser of {found.evaluation.name}: {len(found.evaluation.answers)} answers, "
            f"{len(found.mine)} labelled by {found.who}"
        )

    def agreement(self) -> dict[str, Agreement]:
        """How far the person and the rule agree; see `Mistakes.agreement`."""
        return self.mistakes.agreement()

    def _make(self) -> _Page:
        return _Page(self.mistakes)

    def _show_plain(self) -> None:
        found = self.mistakes
        places = found.places("any mistake")
        kinds = counted(found.labels(place) for place in range(len(found.evaluation.answers)))
        told_kinds = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"
        plots.table(
            [
                [cut(found.question(place)), cut(found.evaluation.answers[place].text),
                 ", ".join(found.labels(place))]
                for place in places[:_SHOWN]
            ] or [["no mistakes by the rules", "", ""]],
            ["question", "answer", "mistakes"],
            caption=f"{min(_SHOWN, len(places))} of {len(places)} answers with mistakes "
            f"({told_kinds}). Run this cell in a notebook to read and label all.",
        )  # fmt: skip


class _Page:
    """The controls, and the answer at hand.

    Attributes:
        box: The whole.
        controls: "kind" and "by".
        kinds: A check box a kind of mistake.
        buttons: "right", "next" and "back".
    """

    def __init__(self, mistakes: Mistakes) -> None:
        import ipywidgets as w

        self._mistakes, self._filling, self._place = mistakes, False, 0
        self._since = -DOUBLE  # when another answer came up
        self._progress, self._question, self._note = w.HTML(), w.HTML(), w.HTML()
        self._sides = halves()
        self.controls: dict[str, ipywidgets.Widget] = {
            "kind": w.Dropdown(description="Show", options=self._filters(), **narrow()),
            "by": w.Dropdown(description="Sort", **narrow(),
                             options=[AS_ASKED, *mistakes.evaluation.scores]),
        }  # fmt: skip
        self.kinds = {
            kind: w.Checkbox(description=kind, indent=False, **narrow()) for kind in KINDS
        }
        for box in self.kinds.values():  # nearer to its own label than to the one before
            box.layout.margin = "2px 1.5em 2px 2px"
        self.buttons = buttons(
            {"right": "Labels are right", "next": "Next", "back": "Back one"},
            once(self._pressed, "next", "back"),
        )
        self._places = mistakes.places()
        for control in self.controls.values():
            control.observe(self._chosen, names="value")
        for box in self.kinds.values():
            box.observe(self._ticked, names="value")
        self.box = w.VBox([
            row(*self.controls.values()), self._progress, self._question, row(*self._sides),
            row(*self.kinds.values()), row(*self.buttons.values()), self._note,
        ])  # fmt: skip
        self._fill()

    @property
    def record(self) -> int | None:
        """The number of the record at hand; None where the filter leaves none."""
        return self._places[self._place] if self._places else None

    def _filters(self) -> list[tuple[str, str]]:
        return [(f"{name} ({count})", name) for name, count in self._mistakes.counts().items()]

    def _chosen(self, _: Any) -> None:
        """Another filter or order: from its first answer on."""
        if self._filling:
            return
        self._places = self._mistakes.places(self.controls["kind"].value, self.controls["by"].value)
        self._place = 0
        self._fill()

    def _ticked(self, _: Any) -> None:
        """A label was changed: keep all of them."""
        if self._filling or self.record is None:
            return
        if time.monotonic() - self._since < DOUBLE:
            self._fill()  # it was meant for the answer before, while the kernel was busy
        else:
            self._keep()

    def _keep(self) -> bool:
        kinds = [kind for kind, box in self.kinds.items() if box.value]
        trouble = told(lambda: self._mistakes.relabel(self.record, kinds), "Not saved.")
        self._fill(trouble or f"Saved: {', '.join(kinds) or 'no mistake'}.")
        return not trouble

    def _pressed(self, name: str) -> bool:
        if self.record is None or (name == "right" and not self._keep()):
            return False
        step = -1 if name == "back" else 1
        place = min(max(self._place + step, 0), len(self._places) - 1)
        if place == self._place:
            self._fill("This is the first one." if step < 0 else "This is the last one.")
            return False
        self._place, self._since = place, time.monotonic()
        self._fill()
        return True

    def _fill(self, note: str = "") -> None:
        """Put the answer at hand on the page. It stays at hand when a label takes it out of the
        filter, until another filter is chosen."""
        found, place = self._mistakes, self.record
        self._filling = True
        try:
            chosen = self.controls["kind"].value
            self.controls["kind"].options = self._filters()
            self.controls["kind"].value = chosen
            kinds = found.labels(place) if place is not None else []
            for kind, box in self.kinds.items():
                box.value = kind in kinds
        finally:
            self._filling = False
        if place is None:
            self._progress.value = status("No answer is left by this filter.")
            self._question.value, pages = "", ["", ""]
        else:
            evaluation, answer = found.evaluation, found.evaluation.answers[place]
            whose = f"labelled by {found.who}" if place in found.mine else "labelled by the rules"
            numbers = ", ".join(
                f"{name} {evaluation.table[name].iloc[place]:.3g}" for name in evaluation.scores
            )
            self._progress.value = status(
                f"{self._place + 1} of {len(self._places)}, record {place}, {whose}. {numbers}"
            )
            self._question.value = part("Question", found.question(place))
            reference = templates.get_field(evaluation.records[place], "answer", needed=False)
            failed = answer is None
            text = str(evaluation.table["error"].iloc[place]) if failed else answer.text
            pages = [part("Failed" if failed else "Answer", text), part("Reference", reference)]
        for side, page in zip(self._sides, pages, strict=True):
            side.value = page
        self._note.value = status(note)
