"""Texts as tokens, one by one and in a batch; and a record, a template, and the exact prompt."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import data, encoding, pages, templates, ui
from llmcourse.errors import CourseError, SettingError, whole
from llmcourse.pages import Markup
from llmcourse.plots.base import INK
from llmcourse.plots.tokens import LOOKS, PAGE, STACKED, piece_of, token_box, visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("right", "left")
MOST, LONGEST_TEXT = 16, 4000  # texts that are shown at once, and characters of each


@dataclass(frozen=True)
class Row:
    """A text in a batch.

    Attributes:
        text: As it was given.
        ids: Its tokens' numbers in the vocabulary, as many as the batch is wide.
        mask: For each of them 1 where the model looks at it, 0 for padding.
        lost: How many tokens were cut off.
    """

    text: str
    ids: list[int]
    mask: list[int]
    lost: int


def batch_of(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    longest: int | None = None,
    cut_side: str = "right",
    padding_side: str = "right",
    special: bool = True,
) -> list[Row]:
    """Texts as the tokenizer itself puts them into a batch.

    Args:
        texts: Some texts, none of them blank.
        tokenizer: A tokenizer.
        longest: Most tokens of a row, special ones among them; no limit if not given.
        cut_side: Where a text that is longer is cut, "right" or "left".
        padding_side: Where shorter texts are filled up.
        special: Add the tokens that this tokenizer puts around a text.

    Raises:
        SettingError: `longest` leaves no place for the text's own tokens.
    """
    limit: dict[str, Any] = {}
    if longest is not None:
        around = tokenizer.num_special_tokens_to_add() if special else 0
        limit = {"truncation": True, "max_length": whole("longest", longest, around + 1)}
    # Once without a limit, to count what is cut off; `verbose` would warn of the length.
    uncut = tokenizer(texts, add_special_tokens=special, verbose=False).input_ids
    # The side to cut on is an attribute of the tokenizer, not an argument of the call.
    before, tokenizer.truncation_side = tokenizer.truncation_side, cut_side
    try:
        batch = tokenizer(
            texts, add_special_tokens=special, padding=True, padding_side=padding_side, **limit
        )
    finally:
        tokenizer.truncation_side = before
    columns = zip(texts, batch.input_ids, batch.attention_mask, uncut, strict=True)
    return [Row(text, ids, mask, len(full) - sum(mask)) for text, ids, mask, full in columns]


def page_of(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Markup:
    """Rows as HTML: each token with its id and its attention mask below it."""
    known, parts = set(tokenizer.all_special_ids), []
    for number, row in enumerate(rows, 1):
        boxes, second = [], False
        for token, mask in zip(row.ids, row.mask, strict=True):
            kind = "padding" if not mask else "special" if token in known else "text"
            second = kind == "text" and not second  # two colours by turns show where tokens end
            look = LOOKS["other" if second else "plain" if kind == "text" else kind]
            text, title = piece_of(token, tokenizer), f"{kind}, id {token}, mask {mask}"
            boxes.append(token_box(text, STACKED + look, title, below=[token, mask]))
        used = sum(row.mask)
        note = f"Text {number}: {used} tokens"
        note += f", {row.lost} cut off" * bool(row.lost)
        note += f", {len(row.ids) - used} of padding" * (len(row.ids) > used)
        body = pages.fill('<div style="{}">{}</div>', PAGE, Markup("").join(boxes))
        parts.append(pages.section(note, body))
    legend = "Below each token: its id, and its attention mask (1 is looked at, 0 is not)."
    return Markup("").join([*parts, pages.fill("<div>{}</div>", legend)])


class TokenExplorer(ui.Widget):
    """Type texts and see their tokens, ids, padding and mask; the last line of a cell shows it.

    Each line is a text of its own, and all together are a batch. Where nobody is there (see
    `BlindVote`), a table shows the same for the texts that were given.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str] | str = ("The Ambra kettle draws 1,870 watts.", "And the Toller?"),
    ) -> None:
        """Take the tokenizer.

        Args:
            tokenizer: A tokenizer, or a model from `models.load`.
            texts: What is shown at first, a text or several.

        Raises:
            SettingError: it is no tokenizer, or has no padding token.
        """
        self.tokenizer = templates.tokenizer_of(tokenizer)
        if self.tokenizer.pad_token_id is None:
            raise SettingError(
                "This tokenizer has no padding token. Take it from models.load_tokenizer, which "
                "chooses one."
            )
        texts = [texts] if isinstance(texts, str) else texts
        self.texts = [text.replace("\n", " ") for text in texts]

    def __repr__(self) -> str:
        return f"TokenExplorer: {len(self.texts)} texts, {len(self.tokenizer):,} tokens known"

    @cached_property
    def controls(self) -> dict[str, Any]:
        """The control of each setting, by name."""
        number, most = "BoundedIntText", "Most tokens (0: no limit)"
        box = {"rows": 4, "value": "\n".join(self.texts)}
        controls = {
            "texts": ui.control("Textarea", "Texts, one a line", "98%", **box),
            "longest": ui.control(number, most, "18em", value=0, min=0, max=10**5),
            "cut_side": ui.control("Dropdown", "Cut on the", options=SIDES),
            "padding_side": ui.control("Dropdown", "Pad on the", options=SIDES),
            "special": ui.control("Checkbox", "Special tokens", value=True, indent=False),
        }
        for control in controls.values():
            control.observe(self._show_tokens, names="value")
        return controls

    def fallback(self) -> dict[str, Any]:
        rows = []
        for row in batch_of(self.texts[:MOST], self.tokenizer):
            texts = "|".join(piece_of(token, self.tokenizer) for token in row.ids)
            ids, mask = (" ".join(map(str, numbers)) for numbers in (row.ids, row.mask))
            rows.append([row.text, texts, ids, mask])
        columns = ["text", "tokens", "ids", "attention mask"]
        return ui.plain_table(columns, rows, "Run this cell in a notebook to type other texts.")

    def build(self) -> Any:
        texts, *settings = self.controls.values()
        self._show_tokens(None)
        return ui.column(texts, ui.row(*settings), self.html["tokens"])

    def _show_tokens(self, _: Any) -> None:
        settings = {name: control.value for name, control in self.controls.items()}
        lines = [line for line in settings.pop("texts").split("\n") if line.strip()]
        texts = [line[:LONGEST_TEXT] for line in lines[:MOST]]
        settings["longest"] = settings["longest"] or None  # a number box can't be empty: 0 is "no"
        if not texts:
            self.put(tokens=pages.status("Type at least one text; blank ones have no tokens."))
            return
        try:
            page = page_of(batch_of(texts, self.tokenizer, **settings), self.tokenizer)
        except CourseError as error:
            page = pages.status(str(error))
        if len(lines) > MOST or max(map(len, lines)) > LONGEST_TEXT:
            limits = f"Only the first {MOST} texts and {LONGEST_TEXT} characters of each are shown."
            page += pages.status(limits)
        self.put(tokens=page)


ROLES = ("question", "input", "answer")
EXAMPLE = {
    "question": "Shorten this.",
    "input": "The kettle is 23.7 cm tall.",
    "answer": "23.7 cm tall.",
}


def prompt_and_completion(
    record: templates.Record | str,
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    system: str | None = None,
) -> tuple[list[int], list[int]]:
    """The token ids that a model reads of a record, and those that it should write.

    Args:
        record: A record, or a question.
        template: Name in `templates.NAMES`.
        tokenizer: The model's.
        system: The system prompt, unless the record has its own.

    Raises:
        PromptError, TemplateError: see `templates.render`.
    """
    rendered = templates.render(record, template, tokenizer=tokenizer, system=system or None)
    # By turns: what is read, and what an assistant wrote; the last part is the answer.
    *read, written = encoding.tokenized([rendered], tokenizer)[0]
    if written:  # a record without an answer has no end to learn either
        written += [end for end in encoding.end_ids(tokenizer, template) if end is not None]
    return [token for part in read for token in part], written


def pieces(ids: list[int], tokenizer: Any) -> list[tuple[str, bool]]:
    """Runs of ordinary tokens as text, and each special token by itself: text, whether special."""
    # Decoded run by run: token by token, a character of several tokens would be "�".
    known, found = set(tokenizer.all_special_ids), []
    for special, group in itertools.groupby(ids, key=known.__contains__):
        for run in [[token] for token in group] if special else [list(group)]:
            found.append((tokenizer.decode(run, clean_up_tokenization_spaces=False), special))
    return found


def token_page(label: str, ids: list[int], tokenizer: Any, *, spaces: bool = False) -> Markup:
    """Token ids as a text under its label, with their number and the special tokens in frames.

    Args:
        label: What they are.
        ids: The tokens.
        tokenizer: Whose ids these are.
        spaces: Show spaces as "·" and line ends as "⏎".
    """
    texts = []
    for text, special in pieces(ids, tokenizer):
        if special:
            mark = '<mark style="color:{};{}" title="special token">{}</mark>'
            texts.append(pages.fill(mark, INK, LOOKS["special"], text))
        else:
            texts.append(pages.escape(visible(text).replace("⏎", "⏎\n") if spaces else text))
    body = '<div style="font-family:monospace;{}">{}</div>'
    count = f"{len(ids)} token{'s' * (len(ids) != 1)}"
    return pages.section(f"{label}: {count}", pages.fill(body, ui.TEXT, Markup("").join(texts)))


class TemplatePlayground(ui.Widget):
    """Change a record or its template, and see the exact prompt; the last line of a cell shows it.

    Special tokens have a frame of their own. Earlier turns of a conversation are in the prompt
    too, but have no box. Where nobody is there (see `BlindVote`), a table shows the first record
    in every template that it can be put into.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, records: Any = (EXAMPLE,), template: str = "qa"
    ) -> None:
        """Take the tokenizer and the records.

        Args:
            tokenizer: A tokenizer, or a model from `models.load`.
            records: One record, or what `data.load_records` takes.
            template: Name in `templates.NAMES` that is shown first.

        Raises:
            SettingError: `tokenizer` is none.
            TemplateError: there is no such template.
            DataError: there are no records, or one has a problem.
        """
        self.tokenizer = templates.tokenizer_of(tokenizer)
        self.template = templates.find(template)
        several = [records] if isinstance(records, dict) else records
        self.records: list[dict[str, Any]] = list(data.as_records(several))
        self._filling = False  # while boxes are filled, each would redraw the prompt

    def __repr__(self) -> str:
        return f"TemplatePlayground: {len(self.records)} records"

    @cached_property
    def controls(self) -> dict[str, Any]:
        """The control of each part, by name."""
        first, count = self.records[0], len(self.records)
        number = {"value": 1, "min": 1, "max": count}
        controls = {
            "record": ui.control("BoundedIntText", f"Record (of {count})", "14em", **number),
            "template": ui.control(
                "Dropdown", "Template", options=templates.NAMES, value=self.template
            ),
            "spaces": ui.control("Checkbox", "Show blanks and line ends", indent=False),
            "system": ui.control("Text", "System prompt", "98%"),
        }
        for role in ROLES:
            box = ui.control("Textarea", role.capitalize(), "98%", value=first[role], rows=2)
            controls[role] = box
        for name, control in controls.items():
            control.observe(
                self._show_record if name == "record" else self._show_prompt, names="value"
            )
        return controls

    def fallback(self) -> dict[str, Any]:
        rows: list[list[Any]] = []
        for name in templates.NAMES:
            try:
                found = prompt_and_completion(self.records[0], name, self.tokenizer)
            except CourseError as error:
                rows.append([name, str(error), "", ""])
                continue
            texts = ("".join(text for text, _ in pieces(ids, self.tokenizer)) for ids in found)
            rows.append([name, *texts, len(found[0])])
        columns = ["template", "what the model reads", "what it should write", "tokens read"]
        return ui.plain_table(columns, rows, "Run this cell in a notebook to change the record.")

    def build(self) -> Any:
        record, template, spaces, *boxes = self.controls.values()
        self._show_prompt(None)
        return ui.column(ui.row(record, template, spaces), *boxes, self.html["prompt"])

    def _show_record(self, change: Any) -> None:
        """Put another record into the boxes; what was typed over the one before goes."""
        self._filling = True
        for role in ROLES:
            self.controls[role].value = self.records[change["new"] - 1][role]
        self._filling = False
        self._show_prompt(None)

    def _show_prompt(self, _: Any) -> None:
        if self._filling:
            return
        values = {name: control.value for name, control in self.controls.items()}
        typed = {role: values[role] for role in ROLES}
        # What has no box stays as it is: a conversation's earlier turns are in `history`.
        record = self.records[values["record"] - 1] | typed
        system, template = values["system"].strip(), values["template"]
        try:
            read, written = prompt_and_completion(record, template, self.tokenizer, system=system)
        except CourseError as error:
            self.put(prompt=pages.status(str(error)))
            return
        how = {"spaces": values["spaces"]}
        page = token_page("What the model reads", read, self.tokenizer, **how)
        if written:
            page += token_page("What it should write", written, self.tokenizer, **how)
        self.put(prompt=page)
