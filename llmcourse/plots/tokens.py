"""How a text falls into tokens, and what of a row is trained on."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse import pages, templates
from llmcourse.encoding import UNTRAINED
from llmcourse.errors import DataError
from llmcourse.pages import Markup
from llmcourse.plots.base import INK, PALE, SHADE, SKY, YELLOW, show_caption

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Part = tuple[str, int, str]  # role, id and text of a token

BOX = f"color:{INK};border-radius:3px;padding:0 2px;margin:1px;unicode-bidi:isolate;"
PLAIN = f"background:{PALE};border:1px dotted {INK};"
END = f"background:{YELLOW};border:3px double {INK};font-weight:bold;"
# Kind of token -> its legend, its element, which is kept where a page's styles are thrown away,
# and its style: text and background are both set, so that it reads in light and dark themes.
ROLES = {
    "prompt": ("prompt, read only", "span", BOX + PLAIN),
    "completion": ("trained on", "b", f"{BOX}background:{SKY};border:1px solid {INK};"),
    "end": ("end token, trained on", "u", BOX + END),
    "padding": ("padding, ignored", "i", f"{BOX}background:white;border:1px dashed {INK};"),
}
PAGE = (
    "font-family:monospace;line-height:1.9;overflow-wrap:anywhere;text-align:left;margin:0 0 8px 0"
)
TEXT_BOX = f"{BOX}display:inline-block;text-align:center;line-height:1.3;"


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
    A token that is only a part of a character is shown as its byte or as "�", a control character
    by its sign, such as "␀", and an invisible one by its number.

    Args:
        shown: A text; a row with `input_ids` and `labels`; several rows; or a batch as
            `encoding.Collator` makes it, where padding is what has attention mask 0.
        tokenizer: Whose ids these are; a model from `models.load` gives its own.
        caption: Below it; plain text.

    Raises:
        DataError: there are no rows, or the columns of a row or batch differ in length.
        SettingError: `tokenizer` is none.
    """
    from IPython.display import display

    tokenizer = templates.tokenizer_of(tokenizer)
    if isinstance(shown, str):
        page, plain = _text(shown, tokenizer)
    else:
        rows = [_parts(*columns, tokenizer) for columns in _rows(shown)]
        if not rows:
            raise DataError("tokens: there are no rows to show.")
        page = Markup("").join([*map(_row_page, rows), _legend(rows)])
        plain = "\n\n".join(_row_plain(parts, tokenizer) for parts in rows)
    display({"text/html": pages.without_formulas(page), "text/plain": plain}, raw=True)
    show_caption(caption)


def _rows(shown: Any) -> Iterable[tuple[list[int], list[int], list[int]]]:
    """Ids, labels and attention mask of each row, out of a row, rows or batches."""
    for row in [shown] if isinstance(shown, Mapping) else shown:
        names = ("input_ids", "labels", "attention_mask")
        columns = {name: _lists(row[name]) for name in names if name in row}
        if not any(isinstance(one, list) for one in columns["input_ids"]):  # no batch
            columns = {name: [values] for name, values in columns.items()}
        ids = columns["input_ids"]
        labels = columns.get("labels", [[UNTRAINED] * len(one) for one in ids])
        mask = columns.get("attention_mask", [[1] * len(one) for one in ids])
        lengths = [[len(one) for one in column] for column in (ids, labels, mask)]
        if lengths != lengths[:1] * 3:
            raise DataError("tokens: input_ids, labels and attention_mask differ in length.")
        yield from zip(ids, labels, mask, strict=True)


def _lists(values: Any) -> Any:
    """Arrays and tensors, also those in a list, as lists."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return [_lists(value) for value in values] if isinstance(values, list | tuple) else values


def _parts(
    ids: list[int], labels: list[int], mask: list[int], tokenizer: PreTrainedTokenizerBase
) -> list[Part]:
    """Role, id and text of each token of a row."""
    parts = []
    for token, label, seen in zip(ids, labels, mask, strict=True):
        trained = "end" if token == tokenizer.eos_token_id else "completion"
        role = "padding" if not seen else "prompt" if label == UNTRAINED else trained
        parts.append((role, token, piece_of(token, tokenizer)))
    return parts


def piece_of(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token's text, with the blank before it where it begins with one."""
    raw = tokenizer.convert_ids_to_tokens(token) or ""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if "\ufffd" in text and raw.startswith("<0x"):
        return raw  # one byte of a character
    return f" {text}" if raw.startswith("▁") and not text.startswith(" ") else text


def visible(text: str) -> str:
    """Escaped text in which blanks, tabs, line ends and control characters are to be seen."""
    marked = html.escape(text).replace(" ", "·").replace("\t", "⇥").replace("\n", "⏎")
    marked = re.sub("[\x00-\x1f]", lambda sign: chr(0x2400 + ord(sign[0])), marked)
    marked = marked.replace("\x7f", "␡")
    if marked and not any(map(str.isprintable, marked)):
        return " ".join(f"U+{ord(sign):04X}" for sign in marked)
    return marked


def _boxed(role: str, text: str, title: str) -> Markup:
    _, tag, style = ROLES[role]
    box = pages.fill(
        f'<{tag} style="{style}" title="{{}}">{{}}</{tag}>', title, Markup(visible(text))
    )
    return box + Markup("<br>" if "\n" in text else "<wbr>")


def _row_page(parts: list[Part]) -> Markup:
    boxes = []
    for padding, group in itertools.groupby(parts, key=lambda part: part[0] == "padding"):
        run = list(group)
        if padding:
            boxes.append(_boxed("padding", f"{run[0][2]}×{len(run)}", f"id {run[0][1]}"))
        else:
            boxes += [_boxed(role, text, f"id {token}: {role}") for role, token, text in run]
    return pages.fill(f'<div style="{PAGE}">{{}}</div>', Markup("").join(boxes) or "(no tokens)")


def _legend(rows: list[list[Part]]) -> Markup:
    """What the boxes that were used mean, in words."""
    used = {role for parts in rows for role, _, _ in parts}
    marks = (
        f'<{tag} style="{style}">{legend}</{tag}>'
        for role, (legend, tag, style) in ROLES.items()
        if role in used
    )
    return Markup(f'<div style="{PAGE}">{" ".join(marks)}</div>')


def _row_plain(parts: list[Part], tokenizer: PreTrainedTokenizerBase) -> str:
    texts = []
    for role, group in itertools.groupby(parts, key=lambda part: part[0]):
        run = [token for _, token, _ in group]
        text = tokenizer.decode(run, clean_up_tokenization_spaces=False)
        texts.append({"completion": f"[{text}]", "padding": f" (pad×{len(run)})"}.get(role, text))
    return "".join(texts) or "(no tokens)"


def _text(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Markup, str]:
    """A plain text's tokens with their ids: the page, and the same in plain text."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = [piece_of(token, tokenizer) for token in ids]
    boxes = []
    for number, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
        style = TEXT_BOX + (f"background:{SHADE};border:1px solid {INK}" if number % 2 else PLAIN)
        boxes.append(
            f'<span style="{style}">{visible(piece)}<br><small>{token}</small></span>'
            + ("<br>" if "\n" in piece else "<wbr>")
        )
    count = f"{len(ids)} token{'s' * (len(ids) != 1)}, {len(text)} characters"
    page = Markup(f'<div style="{PAGE}">{"".join(boxes)}</div><div>{count}</div>')
    return page, f"{'|'.join(pieces)}\n{' '.join(map(str, ids))}\n{count}"
