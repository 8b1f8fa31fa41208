"""How a text falls into tokens, and what of a row is trained on."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.encoding import UNTRAINED
from llmcourse.plots.base import INK, PALE, SKY, YELLOW

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class _Role:
    """How a kind of token looks: said by letters and borders as well as by colour.

    Attributes:
        legend: What it is, in words.
        tag: The element; it is kept where a page's styles are thrown away.
        style: Text and background are both set, so that it reads in light and dark themes.
    """

    legend: str
    tag: str
    style: str


BOX = f"color:{INK};border-radius:3px;padding:0 2px;margin:1px;unicode-bidi:isolate;"
ROLES = {
    "prompt": _Role(
        "prompt, read only", "span", f"{BOX}background:{PALE};border:1px dotted {INK};"
    ),
    "completion": _Role("trained on", "b", f"{BOX}background:{SKY};border:1px solid {INK};"),
    "end": _Role(
        "end token, trained on",
        "u",
        f"{BOX}background:{YELLOW};border:3px double {INK};font-weight:bold;",
    ),
    "padding": _Role(
        "padding, not looked at", "i", f"{BOX}background:white;border:1px dashed {INK};"
    ),
}
PAGE = (
    "font-family:monospace;line-height:1.9;overflow-wrap:anywhere;text-align:left;margin:0 0 8px 0"
)


def tokens(
    shown: str | Mapping[str, Any] | Iterable[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    caption: str | None = None,
) -> None:
    """Show tokens as boxes: blanks as "·", line ends as "⏎", everything escaped.

    Of a row it shows what the model only reads, what it is trained on, the end token it is trained
    on, and the padding; in plain text these are `prompt[completion]<end> (pad×3)`. Of a text it
    shows the tokens with their ids, in two colours by turns, without those the tokenizer adds.
    A token that is only a part of a character is shown as its byte or as "�".

    Args:
        shown: A text; a row with `input_ids` and `labels`; several rows; or a batch as
            `encoding.Collator` makes it, where padding is what has attention mask 0.
        tokenizer: Whose ids these are.
        caption: Below it.
    """
    from IPython.display import Markdown, display

    if isinstance(shown, str):
        page, plain = _text(shown, tokenizer)
    else:
        rows = [_parts(row, tokenizer) for row in _rows(shown)]
        page = "".join(map(_row_page, rows)) + _legend(rows)
        plain = "\n\n".join(_row_plain(parts, tokenizer) for parts in rows)
    display({"text/html": page, "text/plain": plain}, raw=True)
    if caption:
        display(Markdown(f"*{caption}*"))


def _rows(shown: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[dict[str, list[int]]]:
    """Single rows as lists of numbers, out of a row, rows or a batch."""
    found = []
    for row in [shown] if isinstance(shown, Mapping) else shown:
        if not isinstance(row, Mapping) or "input_ids" not in row:
            raise ValueError("tokens needs a text, or rows that have input_ids")
        names = [name for name in ("input_ids", "labels", "attention_mask") if name in row]
        values = [getattr(row[name], "tolist", lambda kept=row[name]: kept)() for name in names]
        nested = len(values[0]) > 0 and isinstance(values[0][0], list)
        found += [
            dict(zip(names, line, strict=True))
            for line in (zip(*values, strict=True) if nested else [values])
        ]
    return found


def _parts(
    row: Mapping[str, Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, int, str]]:
    """Role, id and text of each token of a row."""
    ids = row["input_ids"]
    labels = row.get("labels", [UNTRAINED] * len(ids))
    mask = row.get("attention_mask", [1] * len(ids))
    parts = []
    for token, label, seen in zip(ids, labels, mask, strict=True):
        if not seen:
            role = "padding"
        elif label == UNTRAINED:
            role = "prompt"
        else:
            role = "end" if token == tokenizer.eos_token_id else "completion"
        parts.append((role, token, _piece(token, tokenizer)))
    return parts


def _piece(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token's text, with the blank before it where it stands for one."""
    raw = tokenizer.convert_ids_to_tokens(token) or ""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if "\ufffd" in text and raw.startswith("<0x"):
        return raw  # one byte of a character
    return f" {text}" if raw.startswith("▁") and not text.startswith(" ") else text


def _visible(text: str) -> str:
    """Escaped text in which blanks, tabs and line ends are to be seen."""
    marked = html.escape(text).replace(" ", "·").replace("\t", "⇥").replace("\r", "␍")
    return marked.replace("\n", "⏎")


def _box(role: str, text: str, title: str) -> str:
    look, ends = ROLES[role], text.count("\n")
    box = f'<{look.tag} style="{look.style}" title="{html.escape(title)}">{_visible(text)}'
    return f"{box}</{look.tag}>" + ("<br>" if ends else "<wbr>")


def _row_page(parts: list[tuple[str, int, str]]) -> str:
    boxes = []
    for padding, group in itertools.groupby(parts, key=lambda part: part[0] == "padding"):
        run = list(group)
        if padding:
            boxes.append(_box("padding", f"{run[0][2]}×{len(run)}", f"id {run[0][1]}"))
        else:
            boxes += [_box(role, text, f"id {token}: {role}") for role, token, text in run]
    return f'<div style="{PAGE}">{"".join(boxes)}</div>'


def _legend(rows: list[list[tuple[str, int, str]]]) -> str:
    """What the boxes that were used mean, in words."""
    used = {role for parts in rows for role, _, _ in parts}
    marks = (
        f'<{look.tag} style="{look.style}">{look.legend}</{look.tag}>'
        for role, look in ROLES.items()
        if role in used
    )
    return f'<div style="{PAGE}">{" ".join(marks)}</div>'


def _row_plain(parts: list[tuple[str, int, str]], tokenizer: PreTrainedTokenizerBase) -> str:
    said = []
    for role, group in itertools.groupby(parts, key=lambda part: part[0]):
        run = [token for _, token, _ in group]
        whole = tokenizer.decode(run, clean_up_tokenization_spaces=False)
        said.append({"completion": f"[{whole}]", "padding": f" (pad×{len(run)})"}.get(role, whole))
    return "".join(said)


def _text(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """A plain text's tokens with their ids: the page, and the same in plain text."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = [_piece(token, tokenizer) for token in ids]
    boxes = []
    for number, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
        style = f"{BOX}display:inline-block;text-align:center;line-height:1.3;" + (
            f"background:{SKY};border:1px solid {INK}"
            if number % 2
            else f"background:{PALE};border:1px dotted {INK}"
        )
        boxes.append(
            f'<span style="{style}">{_visible(piece)}<br><small>{token}</small></span>'
            + ("<br>" if "\n" in piece else "<wbr>")
        )
    count = f"{len(ids)} token{'s' * (len(ids) != 1)}, {len(text)} characters"
    page = f'<div style="{PAGE}">{"".join(boxes)}</div><div>{count}</div>'
    return page, f"{'|'.join(pieces)}\n{' '.join(map(str, ids))}\n{count}"
