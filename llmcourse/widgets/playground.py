"""A record, a template, and the exact prompt that the model sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, pages, templates
from llmcourse.errors import CourseError, DataError
from llmcourse.pages import Markup
from llmcourse.plots.base import INK, YELLOW
from llmcourse.plots.tokens import visible
from llmcourse.store import is_writable
from llmcourse.widgets import ui

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("question", "input", "answer")
_EXAMPLE = {
    "question": "Shorten this.",
    "input": "The kettle is 23.7 cm tall.",
    "answer": "23.7 cm tall.",
}
_SPECIAL = f"color:{INK};background:{YELLOW};border:3px double {INK};font-weight:bold"


@dataclass(frozen=True)
class Exact:
    """A prompt and its completion, as a model reads them.

    Attributes:
        prompt: Pieces (text, whether it is a special token).
        completion: The same for what it should write, the end token last.
        prompt_tokens: How many tokens the prompt has.
        completion_tokens: How many the completion has.
    """

    prompt: list[tuple[str, bool]]
    completion: list[tuple[str, bool]]
    prompt_tokens: int
    completion_tokens: int


def exact(
    record: templates.Record | str,
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    system: str | None = None,
) -> Exact:
    """What a model reads of a record, special tokens among it.

    Args:
        record: With the fields in `templates.FIELDS`, or a question.
        template: Name in `templates.NAMES`.
        tokenizer: A tokenizer, or a model from `models.load`.
        system: The system prompt.

    Raises:
        PromptError, TemplateError: see `templates.render`.
        DataError: it has characters that are no text.
        SettingError: `tokenizer` is none.
    """
    tokenizer = templates.tokenizer_of(tokenizer)
    rendered = templates.render(record, template, tokenizer=tokenizer, system=system or None)
    if not is_writable(rendered.prompt + rendered.completion):
        raise DataError("The record has characters that are no text. Type it again.")
    parts = encoding.tokenized([rendered], tokenizer)[0]
    ids, written = [token for part in parts[:-1] for token in part], parts[-1]
    if written:
        written += [end for end in encoding.end_ids(tokenizer, template) if end is not None]
    return Exact(_pieces(ids, tokenizer), _pieces(written, tokenizer), len(ids), len(written))


def _pieces(ids: list[int], tokenizer: Any) -> list[tuple[str, bool]]:
    """Runs of ordinary tokens as text, and each special token by itself."""
    known, found = set(tokenizer.all_special_ids), []
    for special, group in itertools.groupby(ids, key=known.__contains__):
        for run in [[token] for token in group] if special else [list(group)]:
            found.append((tokenizer.decode(run, clean_up_tokenization_spaces=False), special))
    return found


def page_of(found: Exact, *, spaces: bool = False) -> Markup:
    """The prompt and the completion as HTML.

    Args:
        found: From `exact`.
        spaces: Show spaces as "·" and line ends as "⏎".
    """
    parts = []
    for label, pieces, count in (
        ("What the model reads", found.prompt, found.prompt_tokens),
        ("What it should write", found.completion, found.completion_tokens),
    ):
        texts = []
        for text, special in pieces:
            if special:
                mark = '<mark style="{}" title="special token">{}</mark>'
                texts.append(pages.fill(mark, _SPECIAL, text))
            else:
                shown = Markup(visible(text).replace("⏎", "⏎\n")) if spaces else text
                texts.append(pages.escape(shown))
        div = '<div style="font-family:monospace;{}">{}</div>'
        body = pages.fill(div, ui.TEXT, Markup("").join(texts))
        parts.append(pages.section(f"{label}: {count} token{'s' * (count != 1)}", body))
    return Markup("").join(parts if found.completion_tokens else parts[:1])


class TemplatePlayground(ui.Widget):
    """Change a record or its template, and see the exact prompt; the last line of a cell shows it.

    Special tokens have a frame of their own. Where nobody is there (see `BlindVote`), a table
    shows the first record in every template that it can be put into.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        records: Mapping[str, Any] | Iterable[Mapping[str, Any]] = _EXAMPLE,
        template: str = "qa",
    ) -> None:
        """Take the tokenizer and the records.

        Args:
            tokenizer: A tokenizer, or a model from `models.load`.
            records: One with the fields in `templates.FIELDS`, or several.
            template: Name in `templates.NAMES` that is shown first.

        Raises:
            SettingError: `tokenizer` is none.
            TemplateError: there is no such template, or a record lacks what it needs.
            DataError: there are no records.
        """
        self.tokenizer = templates.tokenizer_of(tokenizer)
        self.template = templates.find(template)
        self.records = [
            {role: templates.get_field(record, role, needed=role == "question") for role in ROLES}
            for record in ([records] if isinstance(records, Mapping) else records)
        ]
        if not self.records:
            raise DataError("There is no record to put into a template.")
        self._filling = False

    def __repr__(self) -> str:
        return f"TemplatePlayground: {len(self.records)} records"

    @cached_property
    def controls(self) -> dict[str, Any]:
        """The control of each part, by name."""
        first, count = self.records[0], len(self.records)
        names = {"options": templates.NAMES, "value": self.template}
        number = {"value": 1, "min": 1, "max": count}
        controls = {
            "record": ui.control("BoundedIntText", f"Record (of {count})", "14em", **number),
            "template": ui.control("Dropdown", "Template", **names),
            "spaces": ui.control("Checkbox", "Show blanks and line ends", indent=False),
            "system": ui.control("Text", "System prompt", "98%"),
        }
        for role in ROLES:
            box = ui.control("Textarea", role.capitalize(), "98%", value=first[role], rows=2)
            controls[role] = box
        for name, control in controls.items():
            control.observe(self._chosen if name == "record" else self._changed, names="value")
        return controls

    def _table(self) -> ui.Table:
        rows = []
        for name in templates.NAMES:
            try:
                found = exact(self.records[0], name, self.tokenizer)
            except CourseError as error:
                rows.append([name, str(error), "", ""])
                continue
            texts = ("".join(text for text, _ in part) for part in (found.prompt, found.completion))
            rows.append([name, *texts, found.prompt_tokens])
        columns = ["template", "what the model reads", "what it should write", "tokens read"]
        return columns, rows, "Run this cell in a notebook to change the record."

    def _build(self) -> Any:
        record, template, spaces, *boxes = self.controls.values()
        self._changed(None)
        return ui.column(ui.row(record, template, spaces), *boxes, self._html["prompt"])

    def _chosen(self, change: Any) -> None:
        """Put another record into the boxes; what was typed over the one before goes."""
        self._filling = True
        for role, text in self.records[change["new"] - 1].items():
            self.controls[role].value = text
        self._filling = False
        self._changed(None)

    def _changed(self, _: Any) -> None:
        if self._filling:
            return
        values = {name: control.value for name, control in self.controls.items()}
        record, system = {role: values[role] for role in ROLES}, values["system"].strip()
        try:
            found = exact(record, values["template"], self.tokenizer, system=system)
            self._put(prompt=page_of(found, spaces=values["spaces"]))
        except CourseError as error:
            self._put(prompt=ui.status(str(error)))
