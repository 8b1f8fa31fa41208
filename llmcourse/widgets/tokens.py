"""Texts as coloured tokens with their ids, and what becomes of them in a batch."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates
from llmcourse.errors import DataError, SettingError, whole
from llmcourse.evaluation.agreement import is_writable
from llmcourse.plots.base import INK, PALE, SHADE, YELLOW
from llmcourse.plots.tokens import BOX, PAGE, piece_of, visible
from llmcourse.widgets.shared import Shown, cut, narrow, row, section, status, wide

if TYPE_CHECKING:
    import ipywidgets
    from transformers import PreTrainedTokenizerBase

SIDES = ("right", "left")
MOST, LONGEST_TEXT = 16, 4000  # texts that are shown at once, and signs of each
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
        text: What it stands for.
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
    texts: Iterable[str],
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
        tokenizer: A tokenizer, or a model from `models.load`.
        longest: Most tokens of a row, special ones among them; no limit if not given.
        cut_side: Where a text that is longer is cut, "right" or "left".
        padding_side: Where shorter texts are filled up.
        special: Add the tokens that this tokenizer puts around a text.

    Raises:
        DataError: there is no text, or one has characters that are no text.
        SettingError: a side or a limit means nothing, or `tokenizer` is none.
    """
    tokenizer, texts = templates.tokenizer_of(tokenizer), list(texts)
    for name, side in (("cut_side", cut_side), ("padding_side", padding_side)):
        if side not in SIDES:
            raise SettingError(f"{name}={side!r} must be 'right' or 'left'.")
    around = tokenizer.num_special_tokens_to_add() if special else 0
    if longest is not None:
        whole("longest", longest, around + 1)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError("Type at least one text; blank ones have no tokens to show.")
    if not all(map(is_writable, texts)):
        raise DataError("A text has characters that are no text. Type it again.")
    whole_texts = tokenizer(texts, add_special_tokens=special, verbose=False).input_ids
    limit = {} if longest is None else {"truncation": True, "max_length": longest}
    before = tokenizer.truncation_side
    try:
        tokenizer.truncation_side = cut_side
        batch = tokenizer(
            texts, add_special_tokens=special, padding=True, padding_side=padding_side, **limit
        )
    finally:
        tokenizer.truncation_side = before
    known = set(tokenizer.all_special_ids)
    rows = []
    for text, ids, mask, full in zip(
        texts, batch.input_ids, batch.attention_mask, whole_texts, strict=True
    ):
        tokens = [
            Token(token, piece_of(token, tokenizer),
                  "padding" if not seen else "special" if token in known else "text", seen)
            for token, seen in zip(ids, mask, strict=True)
        ]  # fmt: skip
        rows.append(Row(text, tokens, len(full) - sum(mask)))
    return rows


def page_of(rows: Iterable[Row]) -> str:
    """Rows as HTML: each token with its id and its attention mask below it."""
    pages = []
    for number, line in enumerate(rows, 1):
        boxes, second = [], False
        for token in line.tokens:
            second = token.kind == "text" and not second
            look = LOOKS["text, every second" if second else token.kind]
            about = html.escape(f"{token.kind}, id {token.id}, mask {token.mask}", quote=True)
            boxes.append(
                f'<span style="{look}" title="{about}">{visible(token.text)}<br><small>{token.id}'
                f"<br>{token.mask}</small></span><wbr>"
            )
        used = sum(token.mask for token in line.tokens)
        lost = f", {line.lost} cut off" if line.lost else ""
        padded = len(line.tokens) - used
        note = f"{used} tokens{lost}" + (f", {padded} of padding" if padded else "")
        pages.append(
            section(f"Text {number}: {note}", f'<div style="{PAGE}">{"".join(boxes)}</div>')
        )
    legend = "Below each token: its id, and its attention mask (1 is looked at, 0 is not)."
    return "".join(pages) + f"<div>{legend}</div>"


class TokenExplorer(Shown):
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
            DataError: a text is blank.
        """
        self.tokenizer = templates.tokenizer_of(tokenizer)
        if self.tokenizer.pad_token_id is None:
            raise SettingError(
                "This tokenizer has no padding token. Take it from models.load_tokenizer, which "
                "chooses one."
            )
        given = [texts] if isinstance(texts, str) else list(texts)
        self.texts = [" ".join(str(text).split("\n")) for text in given]
        batch_of(self.texts, self.tokenizer)

    def __repr__(self) -> str:
        return f"TokenExplorer: {len(self.texts)} texts, {len(self.tokenizer):,} tokens known"

    def _make(self) -> _Page:
        return _Page(self)

    def _show_plain(self) -> None:
        rows = batch_of(self.texts[:MOST], self.tokenizer)
        plots.table(
            [
                [cut(line.text),
                 cut("|".join(token.text for token in line.tokens)),
                 cut(" ".join(str(token.id) for token in line.tokens)),
                 cut(" ".join(str(token.mask) for token in line.tokens))]
                for line in rows
            ],
            ["text", "tokens", "ids", "attention mask"],
            caption="Run this cell in a notebook to type other texts.",
        )  # fmt: skip


class _Page:
    """The controls, and the tokens.

    Attributes:
        box: The whole.
        controls: The control of each setting, by name.
    """

    def __init__(self, explorer: TokenExplorer) -> None:
        import ipywidgets as w

        self._explorer, self._shown = explorer, w.HTML()
        self.controls: dict[str, ipywidgets.Widget] = {
            "texts": w.Textarea(description="Texts, one a line", rows=4,
                                value="\n".join(explorer.texts), **wide()),
            "longest": w.BoundedIntText(description="Most tokens (0: no limit)", value=0, min=0,
                                        max=100_000, **narrow("18em")),
            "cut_side": w.Dropdown(description="Cut on the", options=SIDES, **narrow()),
            "padding_side": w.Dropdown(description="Pad on the", options=SIDES, **narrow()),
            "special": w.Checkbox(description="Special tokens", value=True, indent=False,
                                  **narrow()),
        }  # fmt: skip
        for control in self.controls.values():
            control.observe(self._changed, names="value")
        first, *others = self.controls.values()
        self.box = w.VBox([first, row(*others), self._shown])
        self._changed(None)

    def _changed(self, _: Any) -> None:
        value = {name: control.value for name, control in self.controls.items()}
        lines = [line for line in value.pop("texts").split("\n") if line.strip()]
        left_out = max(0, len(lines) - MOST)
        long = sum(len(line) > LONGEST_TEXT for line in lines[:MOST])
        texts = [line[:LONGEST_TEXT] for line in lines[:MOST]]
        try:
            rows = batch_of(texts, self._explorer.tokenizer,
                            **value | {"longest": value["longest"] or None})  # fmt: skip
        except (DataError, SettingError) as error:
            self._shown.value = status(str(error))
            return
        notes = [f"Only the first {MOST} texts are shown."] * bool(left_out)
        notes += [f"Of longer texts only {LONGEST_TEXT} signs are taken."] * bool(long)
        self._shown.value = page_of(rows) + status(" ".join(notes))
