"""Ferrowick's two tasks as files that the lm-evaluation-harness reads; see `harness`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmcourse import company, files, templates, tiers
from llmcourse.errors import PromptError, SettingError, whole
from llmcourse.generation import check_loaded, trouble
from llmcourse.models import LoadedModel

LOCAL = ("ferrowick_choices", "ferrowick_facts")

# A YAML file is read by the harness; JSON values are YAML too, so each {…} is filled with JSON.
_CHOICES = """\
task: ferrowick_choices
dataset_path: json
dataset_kwargs: {dataset}
output_type: multiple_choice
test_split: test
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: {delimiter}
num_fewshot: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0, template: {template}}}
"""
_FACTS = """\
task: ferrowick_facts
dataset_path: json
dataset_kwargs: {dataset}
output_type: generate_until
test_split: test
doc_to_text: prompt
doc_to_target: reference
process_results: !function ferrowick_scoring.process_results
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {limit}}}
num_fewshot: 0
metric_list:
  - {{metric: facts, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0, template: {template}}}
"""
_SCORING = '''\
"""How the harness scores an answer of ferrowick_facts: 1 where it has every key of the fact."""

from llmcourse.words import has_keys


def process_results(doc, results):
    return {"facts": float(has_keys(results[0], doc["keys"]))}
'''


def write_tasks(
    folder: Path | str,
    model: LoadedModel | None = None,
    template: str | None = None,
    *,
    max_new_tokens: int | None = None,
) -> Path:
    """Write the two tasks as files that the harness reads, by this module or its own command:

        lm-eval run --model hf --model_args pretrained=MODEL --include_path FOLDER \\
            --tasks ferrowick_choices

    The prompts stand in the files as the model reads them, in its template; so the tasks are
    written for one model, and again for one with another template. The paths in them are absolute:
    write them again rather than move the folder.

    Args:
        folder: New or existing; files of an earlier call are replaced.
        model: Whose template and tokenizer are used; without it, "plain" for a base model.
        template: Name in `templates.NAMES` instead of the model's own.
        max_new_tokens: Longest answer of `ferrowick_facts`, in tokens; the tier's if not given.

    Returns:
        The folder, for `--include_path`.

    Raises:
        TemplateError: an unknown template, or "chat" without a model that has one.
        SettingError: `model` is no loaded model, or a number is out of range.
        NoSpace, OSError: the folder can't be written.
    """
    if model is not None:
        check_loaded(model)
    folder = Path(folder).expanduser().absolute()
    name = templates.find(template or (model.template if model else "plain"))
    tokenizer = model.tokenizer if model else None
    wished = tiers.current().new_tokens if max_new_tokens is None else max_new_tokens
    limit = whole("max_new_tokens", wished, 1)

    def prompt(question: str) -> str:
        return templates.render(question, name, tokenizer=tokenizer).prompt

    choices = [
        record | {"prompt": f"Question: {record['question']}\nAnswer:" if name == "plain"
                  else prompt(record["question"])}
        for record in company.records("choices")
    ]  # fmt: skip
    keys = {fact["id"]: fact["keys"] for fact in company.records("facts")}
    facts = [
        {"id": record["id"], "question": record["question"], "reference": record["answer"],
         "keys": keys[record["fact"]], "prompt": prompt(record["question"])}
        for record in company.records("questions", "test")
    ]  # fmt: skip
    for task, records, text in zip(LOCAL, (choices, facts), (_CHOICES, _FACTS), strict=True):
        path = folder / f"{task}.jsonl"
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        files.write_text(path, "".join(lines))
        # The copy that `datasets` makes stays in the folder too, and no file of it stays open.
        dataset = {"data_files": {"test": str(path)}, "keep_in_memory": True,
                   "cache_dir": str(folder / "cache")}  # fmt: skip
        filled = text.format(
            dataset=json.dumps(dataset, ensure_ascii=False), template=json.dumps(name),
            delimiter=json.dumps(" " if name == "plain" else ""), limit=limit,
        )  # fmt: skip
        files.write_text(folder / f"{task}.yaml", filled)
    files.write_text(folder / "ferrowick_scoring.py", _SCORING)
    return folder


def check_room(
    model: LoadedModel, template: str, tasks: list[str], limit: int | None, answer: int | None
) -> None:  # fmt: skip
    """Refuse what the harness would cut off, and a tokenizer that it would misread.

    Args:
        model: From `models.load`.
        template: It is asked with.
        tasks: Some of `LOCAL`.
        limit: Only the first so many questions count.
        answer: Longest answer of `ferrowick_facts`, in tokens; the tier's if not given.

    Raises:
        PromptError: a question does not fit the model's context with its answer.
        SettingError: the tokenizer ends every text by its end token.
    """
    ids = model.tokenizer("a").input_ids
    if len(ids) > 1 and ids[-1] == model.tokenizer.eos_token_id:
        raise SettingError(
            f"The tokenizer of {model.title} closes every text with its end token, after which the "
            f"harness can't go on. Set tokenizer.add_eos_token = False."
        )
    wanted: list[tuple[dict[str, Any], int | None]] = []
    if LOCAL[0] in tasks:
        for record in company.records("choices")[:limit]:
            options = model.tokenizer(record["choices"]).input_ids
            wanted.append((record, max(map(len, options))))
    if LOCAL[1] in tasks:
        wanted += [(record, answer) for record in company.records("questions", "test")[:limit]]
    for record, length in wanted:
        if wrong := trouble(model, record["question"], template, max_new_tokens=length):
            raise PromptError(f"Question {record['id']} {wrong}")
