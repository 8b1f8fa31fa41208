"""A record, a template, and the exact prompt that the model sees."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, plots, templates
from llmcourse.errors import CourseError, DataError
from llmcourse.evaluation.agreement import is_writable
from llmcourse.plots.base import INK, YELLOW
from llmcourse.plots.tokens import visible
from llmcourse.widgets.shared import TEXT, Shown, cut, narrow, row, section, status, wide

if TYPE_CHECKING:
    import ipywidgets
    from transformers import PreTrainedTokenizerBase

ROLES = ("question", "input", "answer")
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
        system: What the model is told before the question.

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


def page_of(found: Exact, *, signs: bool = False) -> str:
    """The prompt and the completion as HTML.

    Args:
        found: From `exact`.
        signs: Show blanks as "·" and line ends as "⏎".
    """
    pages = []
    for label, pieces, count in (
        ("What the model reads", found.prompt, found.prompt_tokens),
        ("What it should write", found.completion, found.completion_tokens),
    ):
        body = "".join(_page(text, special, signs) for text, special in pieces)
        note = f"{label}: {count} token{'s' * (count != 1)}"
        pages.append(section(note, f'<div style="font-family:monospace;{TEXT}">{body}</div>'))
    return "".join(pages if found.completion_tokens else pages[:1])


def _page(text: str, special: bool, signs: bool) -> str:
    if special:
        return f'<mark style="{_SPECIAL}" title="special token">{html.escape(text)}</mark>'
    return visible(text).replace("⏎", "⏎\n") if signs else html.escape(text)


class TemplatePlayground(Shown):
    """Change a record or its template, and see the exact prompt; the last line of a cell shows it.

    Special tokens have a frame of their own. Where nobody is there (see `BlindVote`), a table
    shows the first record in every template that it can be put into.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        records: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (
            {"question": "Shorten this.", "input": "The kettle is 23.7 cm tall.",
             "answer": "23.7 cm tall."},
        ),
        template: str = "qa",
    ) -> None:  # fmt: skip
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
        given = [records] if isinstance(records, Mapping) else list(records)
        if not given:
            raise DataError("There is no record to put into a template.")
        self.records = [
            {role: templates.get_field(record, role, needed=role == "question") for role in ROLES}
            for record in given
        ]

    def __repr__(self) -> str:
        return f"TemplatePlayground: {len(self.records)} records"

    def _make(self) -> _Page:
        return _Page(self)

    def _show_plain(self) -> None:
        rows = []
        for name in templates.NAMES:
            try:
                found = exact(self.records[0], name, self.tokenizer)
            except CourseError as error:
                rows.append([name, str(error), "", ""])
                continue
            texts = ["".join(text for text, _ in pieces)
                     for pieces in (found.prompt, found.completion)]  # fmt: skip
            rows.append([name, *map(cut, texts), found.prompt_tokens])
        plots.table(
            rows,
            ["template", "what the model reads", "what it should write", "tokens read"],
            caption="Run this cell in a notebook to change the record.",
        )


class _Page:
    """The controls, and the prompt.

    Attributes:
        box: The whole.
        controls: The control of each part, by name.
    """

    def __init__(self, playground: TemplatePlayground) -> None:
        import ipywidgets as w

        self._playground, self._shown, self._filling = playground, w.HTML(), False
        first = playground.records[0]
        self.controls: dict[str, ipywidgets.Widget] = {
            "record": w.BoundedIntText(description=f"Record (of {len(playground.records)})",
                                       value=1, min=1, max=len(playground.records),
                                       **narrow("14em")),
            "template": w.Dropdown(description="Template", options=templates.NAMES,
                                   value=playground.template, **narrow()),
            "signs": w.Checkbox(description="Show blanks and line ends", indent=False, **narrow()),
            "system": w.Text(description="System text", **wide()),
            **{role: w.Textarea(description=role.capitalize(), value=first[role], rows=2, **wide())
               for role in ROLES},
        }  # fmt: skip
        for name, control in self.controls.items():
            control.observe(self._chosen if name == "record" else self._changed, names="value")
        c = self.controls
        self.box = w.VBox([
            row(c["record"], c["template"], c["signs"]), c["system"], *(c[role] for role in ROLES),
            self._shown,
        ])  # fmt: skip
        self._changed(None)

    def _chosen(self, change: Any) -> None:
        """Put another record into the boxes; what was typed over the one before goes."""
        self._filling = True
        for role, text in self._playground.records[change["new"] - 1].items():
            self.controls[role].value = text
        self._filling = False
        self._changed(None)

    def _changed(self, _: Any) -> None:
        if self._filling:
            return
        value = {name: control.value for name, control in self.controls.items()}
        record = {role: value[role] for role in ROLES}
        try:
            found = exact(record, value["template"], self._playground.tokenizer,
                          system=value["system"].strip())  # fmt: skip
        except CourseError as error:
            self._shown.value = status(str(error))
            return
        self._shown.value = page_of(found, signs=value["signs"])
