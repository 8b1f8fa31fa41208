"""How a text falls into tokens, and which tokens of a row are trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse import pages, templates
from llmcourse.encoding import UNTRAINED
from llmcourse.pages import Markup
from llmcourse.plots.base import INK, PALE, SHADE, SKY, YELLOW, show_caption

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Part = tuple[str, int, str]  # role, id and text of a token

PAGE = (
    "font-family:monospace;line-height:1.9;overflow-wrap:anywhere;text-align:left;margin:0 0 8px 0"
)
# Text and background are both set, so that a box reads in light and dark themes.
BOX = f"color:{INK};border-radius:3px;padding:0 2px;margin:1px;unicode-bidi:isolate;"
STACKED = f"{BOX}display:inline-block;text-align:center;line-height:1.3;"  # with lines below
LOOKS = {
    "plain": f"background:{PALE};border:1px dotted {INK};",
    "other": f"background:{SHADE};border:1px solid {INK}",  # every second token of a text
    "trained": f"background:{SKY};border:1px solid {INK};",
    "special": f"background:{YELLOW};border:3px double {INK};font-weight:bold;",
    "padding": f"background:white;border:1px dashed {INK};",
}
# Role of a token -> its legend, its look, and its element, which tells the roles apart where a
# page's styles are thrown away.
ROLES = {
    "prompt": ("prompt, read only", "plain", "span"),
    "completion": ("trained on", "trained", "b"),
    "end": ("end token, trained on", "special", "u"),
    "padding": ("padding, ignored", "padding", "i"),
}
# Unicode's pictures of the control characters, and the usual marks for what is seen as a gap.
_MARKS = {code: chr(0x2400 + code) for code in range(32)}
_MARKS |= {ord(" "): "·", ord("\t"): "⇥", ord("\n"): "⏎", 0x7F: "␡"}


def tokens(
    shown: str | Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    caption: str | None = None,
) -> None:
    """Show tokens as boxes: spaces as "·", line ends as "⏎", everything escaped.

    Of a row it shows what the model only reads, what it is trained on, the end token it is trained
    on, and the padding; in plain text these are `prompt[completion]<end> (pad×3)`. Of a text it
    shows the tokens with their ids, in two colours by turns, without those the tokenizer adds.
    A token that is only a part of a character is shown as its byte or as "�", a control character
    by its picture, such as "␀", and an invisible one by its number.

    Args:
        shown: A text; a row with `input_ids` and `labels`; or a batch of rows as
            `encoding.Collator` makes it, where padding is what has attention mask 0.
        tokenizer: Whose ids these are; a model from `models.load` gives its own.
        caption: Below it; plain text.

    Raises:
        SettingError: `tokenizer` is none.
    """
    from IPython.display import display

    tokenizer = templates.tokenizer_of(tokenizer)
    if isinstance(shown, str):
        page, plain = _text_page(shown, tokenizer)
    else:
        rows = [_with_roles(*columns, tokenizer) for columns in _rows_of(shown)]
        page = Markup("").join([*map(_row_page, rows), _legend(rows)])
        plain = "\n\n".join(_row_plain(parts, tokenizer) for parts in rows)
    display({"text/html": pages.without_formulas(page), "text/plain": plain}, raw=True)
    show_caption(caption)


def piece_of(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token's text, with the space before it where it begins with one.

    The tokenizer drops that space when it decodes a token alone, as if a text began there.
    """
    raw = tokenizer.convert_ids_to_tokens(token) or ""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if "\ufffd" in text and raw.startswith("<0x"):
        return raw  # one byte of a character
    return f" {text}" if raw.startswith("▁") and not text.startswith(" ") else text


def visible(text: str) -> str:
    """`text` in which spaces, tabs, line ends and control characters can be seen; not escaped."""
    marked = text.translate(_MARKS)
    if marked and not any(map(str.isprintable, marked)):
        return " ".join(f"U+{ord(character):04X}" for character in marked)
    return marked


def token_box(
    text: str, style: str, title: str = "", *, tag: str = "span", below: Iterable[Any] = ()
) -> Markup:
    """A token in a box with its style, what the mouse shows over it, and small lines below it."""
    small = Markup("<br>").join(map(pages.escape, below))
    lines = pages.fill("{}<br><small>{}</small>", visible(text), small) if small else visible(text)
    hover = pages.fill(' title="{}"', title) if title else ""
    box = pages.fill('<{0} style="{1}"{2}>{3}</{0}>', Markup(tag), style, hover, lines)
    # A long word of the page may break between two boxes, and does where the text had a line end.
    return box + Markup("<br>" if "\n" in text else "<wbr>")


def _rows_of(shown: Mapping[str, Any]) -> Iterable[tuple[list[int], list[int], list[int]]]:
    """Ids, labels and attention mask of a row, or of each row of a batch."""
    usual = (("labels", UNTRAINED), ("attention_mask", 1))
    names = [name for name in ("input_ids", "labels", "attention_mask") if name in shown]
    given = {name: _to_lists(shown[name]) for name in names}
    if not any(isinstance(one, list) for one in given["input_ids"]):
        given = {name: [column] for name, column in given.items()}
    for number, ids in enumerate(given["input_ids"]):
        labels, mask = (
            given[name][number] if name in given else [value] * len(ids) for name, value in usual
        )
        yield ids, labels, mask


def _to_lists(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _with_roles(
    ids: list[int], labels: list[int], mask: list[int], tokenizer: PreTrainedTokenizerBase
) -> list[Part]:
    """Role, id and text of each token of a row."""
    parts = []
    for token, label, read in zip(ids, labels, mask, strict=True):
        trained = "end" if token == tokenizer.eos_token_id else "completion"
        role = "padding" if not read else "prompt" if label == UNTRAINED else trained
        parts.append((role, token, piece_of(token, tokenizer)))
    return parts


def _row_page(parts: list[Part]) -> Markup:
    boxes = []
    for padding, group in itertools.groupby(parts, key=lambda part: part[0] == "padding"):
        run = list(group)
        if padding:  # one box for all of it, with its length
            run = [("padding", run[0][1], f"{run[0][2]}×{len(run)}")]
        for role, token, text in run:
            _, look, tag = ROLES[role]
            title = f"id {token}" if padding else f"id {token}: {role}"
            boxes.append(token_box(text, BOX + LOOKS[look], title, tag=tag))
    return pages.fill('<div style="{}">{}</div>', PAGE, Markup("").join(boxes) or "(no tokens)")


def _legend(rows: list[list[Part]]) -> Markup:
    """What the boxes that were used mean, in words."""
    used = {role for parts in rows for role, _, _ in parts}
    marks = (
        pages.fill('<{0} style="{1}">{2}</{0}>', Markup(tag), BOX + LOOKS[look], legend)
        for role, (legend, look, tag) in ROLES.items()
        if role in used
    )
    return pages.fill('<div style="{}">{}</div>', PAGE, Markup(" ").join(marks))


def _row_plain(parts: list[Part], tokenizer: PreTrainedTokenizerBase) -> str:
    texts = []
    for role, group in itertools.groupby(parts, key=lambda part: part[0]):
        run = [token for _, token, _ in group]
        text = tokenizer.decode(run, clean_up_tokenization_spaces=False)
        texts.append({"completion": f"[{text}]", "padding": f" (pad×{len(run)})"}.get(role, text))
    return "".join(texts) or "(no tokens)"


def _text_page(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Markup, str]:
    """A text's tokens with their ids: as HTML, and the same in plain text."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = [piece_of(token, tokenizer) for token in ids]
    looks = itertools.cycle((LOOKS["plain"], LOOKS["other"]))
    boxes = [
        token_box(piece, STACKED + look, below=[token])
        for token, piece, look in zip(ids, pieces, looks, strict=False)
    ]
    count = f"{len(ids)} token{'s' * (len(ids) != 1)}, {len(text)} characters"
    page = '<div style="{}">{}</div><div>{}</div>'
    plain = f"{'|'.join(pieces)}\n{' '.join(map(str, ids))}\n{count}"
    return pages.fill(page, PAGE, Markup("").join(boxes), count), plain
