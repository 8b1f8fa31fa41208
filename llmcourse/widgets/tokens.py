"""Texts as coloured tokens with their ids, and what becomes of them in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import pages, templates, ui
from llmcourse.errors import CourseError, SettingError, whole
from llmcourse.pages import Markup
from llmcourse.plots.tokens import LOOKS, PAGE, STACKED, piece_of, token_box

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
