"""The mistakes of an evaluation: filtered, sorted, read and relabelled."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from llmcourse import pages, ui
from llmcourse.data.records import question_of
from llmcourse.errors import DataError
from llmcourse.evaluation.agreement import (
    Agreement,
    agreement_by_class,
    load_labels,
    save_labels,
)
from llmcourse.evaluation.metrics import KINDS, METRICS, counted
from llmcourse.evaluation.running import Evaluation
from llmcourse.files import lines_path

SHOWN = 8  # answers in the plain table
IN_ORDER = "in order"
FILTERS = ("all", "any mistake", "no mistake", *KINDS, "failed", "labelled", "not labelled")


class ErrorBrowser(ui.Widget):
    """Read an evaluation's answers kind by kind and correct their labels, as a cell's last line.

    Each label that is ticked, and each "Labels are right", is in the file at once, as
    `evaluation.save_labels` keeps it: `load_labels` reads it, and two people's labels in one file
    can be compared. Where nobody is there (see `BlindVote`), a table shows the answers with
    mistakes.

    A person's labels belong to a question with its answer: the same question with another model's
    answer has labels of its own, in the same file.

    Attributes:
        mine: Number of a record -> this person's labels of its answer.
    """

    def __init__(self, evaluation: Evaluation, path: Path | str, who: str = "me") -> None:
        """Read the labels so far.

        Args:
            evaluation: From `evaluation.evaluate`.
            path: A .jsonl file for the labels, which need not exist yet.
            who: A name for whoever labels.

        Raises:
            DataError: the file has other things than labels in it.
        """
        self.evaluation, self.path, self.who = evaluation, lines_path(path), who
        # What labels are kept under; "" where there is no answer. With the answer in it, labels
        # never go over to another model's answer to the same question.
        self._keys = [
            "" if answer is None else f"{self.question(number)}\n→ {answer.text}"
            for number, answer in enumerate(evaluation.answers)
        ]
        theirs: Any = load_labels(self.path).get(who, {}) if self.path.exists() else {}
        self.mine: dict[int, list[str]] = {
            n: theirs[key] for n, key in enumerate(self._keys) if key and key in theirs
        }
        self._filling, self._place, self._left = False, 0, self.left()
        self._since = -ui.DOUBLE  # when the current answer came up

    def __repr__(self) -> str:
        return (
            f"ErrorBrowser of {self.evaluation.name}: {len(self._keys)} answers, "
            f"{len(self.mine)} labelled by {self.who}"
        )

    def question(self, number: int) -> str:
        """The question of a record, with its input and the turns before."""
        return question_of(self.evaluation.records[number])

    def labels(self, number: int) -> list[str]:
        """The kinds of mistakes of an answer: the person's where there are any, else the rule's."""
        return self.mine.get(number, self.evaluation.labels[number])

    def left(self, kind: str = "all", by: str = IN_ORDER) -> list[int]:
        """The numbers of the records that a filter leaves, in order.

        Args:
            kind: One of `FILTERS`.
            by: "in order", or a metric that was measured: the worst first, those without a number
                last.

        Raises:
            SettingError: the metric was not measured.
        """
        is_left = {
            "all": lambda n: True,
            "any mistake": lambda n: bool(self.labels(n)),
            "no mistake": lambda n: self._keys[n] and not self.labels(n),
            "failed": lambda n: not self._keys[n],
            "labelled": lambda n: n in self.mine,
            "not labelled": lambda n: self._keys[n] and n not in self.mine,
        }.get(kind, lambda n: kind in self.labels(n))
        numbers = list(filter(is_left, range(len(self._keys))))
        if by == IN_ORDER:
            return numbers
        # The worst first: low values, or high ones of a metric that should be low, as perplexity.
        values = self.evaluation.values(by)
        sign = -1 if METRICS[by].better == "low" else 1
        return sorted(numbers, key=lambda n: (math.isnan(values[n]), sign * values[n]))

    def relabel(self, number: int, kinds: Iterable[str]) -> None:
        """Give an answer a person's labels, and keep them.

        Args:
            number: Of its record, from 0.
            kinds: Some of `KINDS`; none where nothing is wrong with it.

        Raises:
            DataError: the record was not answered, or the labels can't be kept; they don't count
                then.
            NoSpace: the disk is full; the same.
        """
        if not self._keys[number]:
            raise DataError("This record failed: there is no answer to label.")
        labels = [kind for kind in KINDS if kind in kinds]
        save_labels(self.path, {self._keys[number]: labels}, self.who)
        # The same question with the same answer may be there twice.
        self.mine |= {n: labels for n, key in enumerate(self._keys) if key == self._keys[number]}

    def agreement(self) -> dict[str, Agreement]:
        """How far the person and the rule agree, on what the person has labelled; {} for nothing.

        See `evaluation.agreement_by_class`.
        """
        rule = {number: self.evaluation.labels[number] for number in self.mine}
        return agreement_by_class(self.mine, rule) if rule else {}

    # --- the page ---------------------------------------------------------------------------------

    @property
    def record(self) -> int | None:
        """The number of the record on the page; None where the filter leaves none."""
        return self._left[self._place] if self._left else None

    @cached_property
    def controls(self) -> dict[str, Any]:
        """The lists: "kind" filters, "by" sorts."""
        by = [IN_ORDER, *self.evaluation.scores]
        lists = {
            "kind": ui.control("Dropdown", "Show", options=self._filters()),
            "by": ui.control("Dropdown", "Sort", options=by),
        }
        for one in lists.values():
            one.observe(self._refilter, names="value")
        return lists

    @cached_property
    def kinds(self) -> dict[str, Any]:
        """A check box for each kind of mistake."""
        boxes = {kind: ui.control("Checkbox", kind, indent=False) for kind in KINDS}
        for box in boxes.values():
            box.layout.margin = "2px 1.5em 2px 2px"  # nearer to its own label than to the last one
            box.observe(self._keep_ticked, names="value")
        return boxes

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons "right", "next" and "back"."""
        texts = {"right": "Labels are right", "next": "Next", "back": "Back one"}
        return ui.make_buttons(texts, ui.once(self._pressed, "next", "back"))

    def fallback(self) -> dict[str, Any]:
        numbers, answers = self.left("any mistake"), self.evaluation.answers
        rows = [
            [self.question(n), str(answers[n]), ", ".join(self.labels(n))] for n in numbers[:SHOWN]
        ]
        kinds = counted(map(self.labels, range(len(answers))))
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"
        caption = (
            f"{len(rows)} of {len(numbers)} answers with mistakes ({counts}). Run this cell in a "
            f"notebook to read and label all."
        )
        nothing = [["no mistakes by the rules", "", ""]]
        return ui.plain_table(["question", "answer", "mistakes"], rows or nothing, caption)

    def build(self) -> Any:
        html = self.html
        self._show_answer()
        return ui.column(
            ui.row(*self.controls.values()),
            html["progress"],
            html["question"],
            ui.row(html["left"], html["right"]),
            ui.row(*self.kinds.values()),
            ui.row(*self.buttons.values()),
            html["note"],
        )

    def _filters(self) -> list[tuple[str, str]]:
        return [(f"{name} ({len(self.left(name))})", name) for name in FILTERS]

    def _refilter(self, _: Any) -> None:
        """Another filter or order: from its first answer on."""
        if not self._filling:
            self._left = self.left(self.controls["kind"].value, self.controls["by"].value)
            self._place = 0
            self._show_answer()

    def _keep_ticked(self, _: Any) -> None:
        """A label was changed: keep all of them."""
        if self._filling:
            return
        if time.monotonic() - self._since < ui.DOUBLE:
            self._show_answer()  # it was meant for the answer before, while the kernel was busy
        else:
            self._keep_labels()

    def _keep_labels(self) -> bool:
        if self.record is None:
            return False
        number, kinds = self.record, [kind for kind, box in self.kinds.items() if box.value]
        trouble = ui.saving_error(lambda: self.relabel(number, kinds))
        self._show_answer(trouble or f"Saved: {', '.join(kinds) or 'no mistake'}.")
        return not trouble

    def _pressed(self, name: str) -> bool:
        if self.record is None or (name == "right" and not self._keep_labels()):
            return False
        step = -1 if name == "back" else 1
        place = min(max(self._place + step, 0), len(self._left) - 1)
        if place == self._place:
            self._show_answer("This is the first one." if step < 0 else "This is the last one.")
            return False
        self._place, self._since = place, time.monotonic()
        self._show_answer()
        return True

    def _show_answer(self, note: str = "") -> None:
        """Put the current answer on the page. It stays there when a label takes it out of the
        filter, until another filter is chosen."""
        number = self.record
        kinds = [] if number is None else self.labels(number)
        self._filling = True  # ipywidgets reports the changes made here like a person's
        chosen = self.controls["kind"].value
        self.controls["kind"].options = self._filters()  # with the counts of now
        self.controls["kind"].value = chosen
        for kind, box in self.kinds.items():
            box.value = kind in kinds
        self._filling = False
        self.put(note=pages.status(note))
        if number is None:
            progress = pages.status("No answer is left by this filter.")
            self.put(progress=progress, question="", left="", right="")
            return
        evaluation, line = self.evaluation, self.evaluation.table.iloc[number]
        answer = evaluation.answers[number]
        numbers = ", ".join(f"{name} {line[name]:.3g}" for name in evaluation.scores)
        place = f"{self._place + 1} of {len(self._left)}, record {number}"
        whose = self.who if number in self.mine else "the rules"
        self.put(
            progress=pages.status(f"{place}, labelled by {whose}. {numbers}"),
            question=ui.part("Question", self.question(number)),
            left=ui.part("Answer", answer.text) if answer else ui.part("Failed", line["error"]),
            right=ui.part("Reference", line["reference"]),
        )
