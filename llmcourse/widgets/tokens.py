"""Texts as coloured tokens with their ids, and what becomes of them in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import pages, templates
from llmcourse.errors import CourseError, DataError, SettingError, whole
from llmcourse.pages import Markup
from llmcourse.plots.base import INK, PALE, SHADE, YELLOW
from llmcourse.plots.tokens import BOX, PAGE, piece_of, visible
from llmcourse.widgets import ui

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("right", "left")
MOST, LONGEST_TEXT = 16, 4000  # texts that are shown at once, and characters of each
_INLINE = f"{BOX}display:inline-block;text-align:center;line-height:1.3;"
LOOKS = {
    "text": f"{_INLINE}background:{PALE};border:1px dotted {INK}",
    "text, every second": f"{_INLINE}background:{SHADE};border:1px solid {INK}",
    "special": f"{_INLINE}background:{YELLOW};border:3px double {INK};font-weight:bold",
    "padding": f"{_INLINE}background:white;border:1px dashed {INK};font-style:italic",
}


@dataclass(frozen=True)
class Token:
    """One place of a row in a batch.

    Attributes:
        id: Its number in the vocabulary.
        text: Its text.
        kind: "text", "special" (put there by the tokenizer) or "padding".
        mask: 1 where the model looks at it, 0 where it does not.
    """

    id: int
    text: str
    kind: str
    mask: int


@dataclass(frozen=True)
class Row:
    """A text in a batch.

    Attributes:
        text: As it was given.
        tokens: As long as the batch is wide.
        lost: Tokens that were cut off.
    """

    text: str
    tokens: list[Token]
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
        DataError: there is no text.
        SettingError: `longest` leaves no place for the text's own tokens.
    """
    if not any(text.strip() for text in texts):
        raise DataError("Type at least one text; blank ones have no tokens to show.")
    limit: dict[str, Any] = {}
    if longest is not None:
        around = tokenizer.num_special_tokens_to_add() if special else 0
        limit = {"truncation": True, "max_length": whole("longest", longest, around + 1)}
    uncut = tokenizer(texts, add_special_tokens=special, verbose=False).input_ids
    before, tokenizer.truncation_side = tokenizer.truncation_side, cut_side
    try:
        batch = tokenizer(
            texts, add_special_tokens=special, padding=True, padding_side=padding_side, **limit
        )
    finally:
        tokenizer.truncation_side = before
    known = set(tokenizer.all_special_ids)
    rows = []
    for text, ids, masks, full in zip(
        texts, batch.input_ids, batch.attention_mask, uncut, strict=True
    ):
        tokens = []
        for token, mask in zip(ids, masks, strict=True):
            kind = "padding" if not mask else "special" if token in known else "text"
            tokens.append(Token(token, piece_of(token, tokenizer), kind, mask))
        rows.append(Row(text, tokens, len(full) - sum(masks)))
    return rows


def page_of(rows: Iterable[Row]) -> Markup:
    """Rows as HTML: each token with its id and its attention mask below it."""
    parts = []
    for number, line in enumerate(rows, 1):
        boxes, second = [], False
        for token in line.tokens:
            second = token.kind == "text" and not second
            box = pages.fill(
                '<span style="{}" title="{}">{}<br><small>{}<br>{}</small></span><wbr>',
                LOOKS["text, every second" if second else token.kind],
                f"{token.kind}, id {token.id}, mask {token.mask}",
                Markup(visible(token.text)),
                token.id,
                token.mask,
            )
            boxes.append(box)
        used = sum(token.mask for token in line.tokens)
        padded = len(line.tokens) - used
        note = f"Text {number}: {used} tokens"
        note += f", {line.lost} cut off" * bool(line.lost) + f", {padded} of padding" * bool(padded)
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
        controls = {
            "texts": ui.control(
                "Textarea", "Texts, one a line", "98%", rows=4, value="\n".join(self.texts)
            ),
            "longest": ui.control(number, most, "18em", value=0, min=0, max=10**5),
            "cut_side": ui.control("Dropdown", "Cut on the", options=SIDES),
            "padding_side": ui.control("Dropdown", "Pad on the", options=SIDES),
            "special": ui.control("Checkbox", "Special tokens", value=True, indent=False),
        }
        for control in controls.values():
            control.observe(self._changed, names="value")
        return controls

    def _table(self) -> ui.Table:
        rows = [
            [
                line.text,
                "|".join(token.text for token in line.tokens),
                " ".join(str(token.id) for token in line.tokens),
                " ".join(str(token.mask) for token in line.tokens),
            ]
            for line in batch_of(self.texts[:MOST], self.tokenizer)
        ]
        columns = ["text", "tokens", "ids", "attention mask"]
        return columns, rows, "Run this cell in a notebook to type other texts."

    def _build(self) -> Any:
        texts, *settings = self.controls.values()
        self._changed(None)
        return ui.column(texts, ui.row(*settings), self._html["tokens"])

    def _changed(self, _: Any) -> None:
        settings = {name: control.value for name, control in self.controls.items()}
        lines = [line for line in settings.pop("texts").split("\n") if line.strip()]
        texts = [line[:LONGEST_TEXT] for line in lines[:MOST]]
        settings["longest"] = settings["longest"] or None
        try:
            page = page_of(batch_of(texts, self.tokenizer, **settings))
        except CourseError as error:
            self._put(tokens=ui.status(str(error)))
            return
        if len(lines) > MOST or max(map(len, lines)) > LONGEST_TEXT:
            limits = f"Only the first {MOST} texts and {LONGEST_TEXT} characters of each are shown."
            page += ui.status(limits)
        self._put(tokens=page)
