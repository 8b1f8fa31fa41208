"""A record, a template, and the exact prompt that the model sees."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import data, encoding, pages, templates, ui
from llmcourse.errors import CourseError
from llmcourse.pages import Markup
from llmcourse.plots.base import INK
from llmcourse.plots.tokens import LOOKS, visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        self._filling = False

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
