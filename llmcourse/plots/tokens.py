"""How a text falls into tokens, and what of a row is trained on."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.encoding import UNTRAINED
from llmcourse.encoding.checks import outside, whole_numbers
from llmcourse.errors import DataError
from llmcourse.pages import without_formulas
from llmcourse.plots.base import INK, PALE, SHADE, SKY, YELLOW, show_caption

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
COLUMNS = ("input_ids", "labels", "attention_mask", "position_ids")
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
    A token that is only a part of a character is shown as its byte or as "�", a control character
    by its sign, such as "␀", and one of signs that can't be seen by their numbers.

    Args:
        shown: A text; a row with `input_ids` and `labels`; several rows; or a batch as
            `encoding.Collator` makes it, where padding is what has attention mask 0, and of
            packed rows what stands behind their last record.
        tokenizer: Whose ids these are; a model from `models.load` gives its own.
        caption: Below it; plain text.

    Raises:
        DataError: there is nothing to show, a row has a problem, or an id is not in the
            tokenizer's vocabulary.
        SettingError: `tokenizer` is none.
    """
    from IPython.display import display

    tokenizer = templates.tokenizer_of(tokenizer)
    if isinstance(shown, str):
        page, plain = _text(shown, tokenizer)
    else:
        rows = [_parts(row, tokenizer) for row in _rows(shown, tokenizer)]
        page = "".join(map(_row_page, rows)) + _legend(rows)
        plain = "\n\n".join(_row_plain(parts, tokenizer) for parts in rows)
    display({"text/html": without_formulas(page), "text/plain": plain}, raw=True)
    show_caption(caption)


def _rows(shown: Any, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, list[int]]]:
    """Single rows as lists of numbers, out of a row, rows or a batch.

    Raises:
        DataError: there are none, or they are no rows.
    """
    wanted = "tokens needs a text, or rows that have input_ids"
    if isinstance(shown, Mapping):
        shown = [shown]
    elif not isinstance(shown, Iterable):
        raise DataError(f"{wanted}, such as encoded.dataset[0], not {type(shown).__name__}.")
    found: list[dict[str, list[int]]] = []
    for row in shown:
        if not isinstance(row, Mapping) or "input_ids" not in row:
            raise DataError(f"{wanted}, not {row!r:.60}")
        names = [name for name in COLUMNS if name in row]
        values = [_lists(row[name]) for name in names]
        nested = isinstance(values[0], list) and any(isinstance(v, list) for v in values[0])
        try:
            lines = list(zip(*values, strict=True)) if nested else [values]
        except (TypeError, ValueError) as error:
            raise DataError(f"A batch's {' and '.join(names)} differ in length.") from error
        found += [_checked(dict(zip(names, line, strict=True)), len(found) + n, tokenizer)
                  for n, line in enumerate(lines)]  # fmt: skip
    if not found:
        raise DataError("tokens: there are no rows to show.")
    return found


def _lists(values: Any) -> Any:
    """Arrays and tensors, also those in a list, as lists; truth values as 0 and 1."""
    if isinstance(values, bool):
        return int(values)
    values = values.tolist() if hasattr(values, "tolist") else values
    return [_lists(value) for value in values] if isinstance(values, list | tuple) else values


def _checked(
    row: dict[str, Any], number: int, tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[int]]:
    """The row, if there is a whole number in each column for each token.

    Raises:
        DataError: there is not, or an id is not in the vocabulary.
    """
    here = f"Row {number} (counted from 0)"
    for name, values in row.items():
        numbers = whole_numbers(values)
        if numbers is None:
            raise DataError(f"{here} has {name} that are no list of whole numbers: {values!r:.60}")
        stranger = outside(name, numbers, tokenizer) if name == "input_ids" else None
        if stranger is not None:
            raise DataError(
                f"{here} has id {stranger}, which is not in this tokenizer's vocabulary."
            )
        if len(values) != len(row["input_ids"]):
            raise DataError(f"{here} has {len(row['input_ids'])} input_ids, {len(values)} {name}.")
    return row


def _parts(
    row: Mapping[str, Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, int, str]]:
    """Role, id and text of each token of a row."""
    ids = row["input_ids"]
    labels = row.get("labels", [UNTRAINED] * len(ids))
    mask = row.get("attention_mask") or _inside(row, tokenizer)
    parts = []
    for token, label, seen in zip(ids, labels, mask, strict=True):
        if not seen:
            role = "padding"
        elif label == UNTRAINED:
            role = "prompt"
        else:
            role = "end" if token == tokenizer.eos_token_id else "completion"
        parts.append((role, token, piece_of(token, tokenizer)))
    return parts


def _inside(row: Mapping[str, Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """1 for each token of a row without a mask, 0 for the padding of a packed one.

    It is the row's last record, where that is nothing but padding tokens without labels.
    """
    ids, positions = row["input_ids"], row.get("position_ids", [])
    start = max((place for place, at in enumerate(positions) if at == 0), default=len(ids))
    padding = set(ids[start:]) == {tokenizer.pad_token_id} and set(
        row.get("labels", [UNTRAINED])[start:]
    ) <= {UNTRAINED}
    end = start if padding else len(ids)
    return [1] * end + [0] * (len(ids) - end)


def piece_of(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token's text, with the blank before it where it stands for one."""
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


def _box(role: str, text: str, title: str) -> str:
    look, ends = ROLES[role], text.count("\n")
    box = f'<{look.tag} style="{look.style}" title="{html.escape(title)}">{visible(text)}'
    return f"{box}</{look.tag}>" + ("<br>" if ends else "<wbr>")


def _row_page(parts: list[tuple[str, int, str]]) -> str:
    boxes = []
    for padding, group in itertools.groupby(parts, key=lambda part: part[0] == "padding"):
        run = list(group)
        if padding:
            boxes.append(_box("padding", f"{run[0][2]}×{len(run)}", f"id {run[0][1]}"))
        else:
            boxes += [_box(role, text, f"id {token}: {role}") for role, token, text in run]
    return f'<div style="{PAGE}">{"".join(boxes) or "(no tokens)"}</div>'


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
    return "".join(said) or "(no tokens)"


def _text(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """A plain text's tokens with their ids: the page, and the same in plain text.

    Raises:
        DataError: it has half characters, which are no text.
    """
    try:
        ids = tokenizer(text, add_special_tokens=False).input_ids
    except (TypeError, UnicodeEncodeError) as error:
        raise DataError("The text has characters that are no text.") from error
    pieces = [piece_of(token, tokenizer) for token in ids]
    boxes = []
    for number, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
        style = f"{BOX}display:inline-block;text-align:center;line-height:1.3;" + (
            f"background:{SHADE};border:1px solid {INK}"
            if number % 2
            else f"background:{PALE};border:1px dotted {INK}"
        )
        boxes.append(
            f'<span style="{style}">{visible(piece)}<br><small>{token}</small></span>'
            + ("<br>" if "\n" in piece else "<wbr>")
        )
    count = f"{len(ids)} token{'s' * (len(ids) != 1)}, {len(text)} characters"
    page = f'<div style="{PAGE}">{"".join(boxes)}</div><div>{count}</div>'
    return page, f"{'|'.join(pieces)}\n{' '.join(map(str, ids))}\n{count}"
