"""The data sets that the course's notebooks load, and this project's substitutes for them.

A substitute has the columns and splits of the data set that it replaces; its texts are those of the
invented company and club, so that a notebook runs without a network. On the smoke tier, which tests
use, there are only a few questions and answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcourse import club, company, encoding, models, retrieval, templates, tiers
from llmcourse.data import Passage

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Rows = list[dict[str, Any]]
TOKENS = 2048  # the most that a row of a question-and-answer set has
PREDICTED = 100  # rows of predictions, made by searching
# Names that the hub has changed since the course was made.
MOVED = {"c4": "allenai/c4"}


def pairs(split: str) -> Rows:
    """The company's questions with answers, and some that it politely does not answer.

    Args:
        split: "train", "validation" or "test".
    """
    rows = [*company.records("questions", split), *company.records("off_topic", split)]
    return _few([{"question": row["question"], "answer": row["answer"]} for row in rows], split)


def _few(rows: Rows, split: str) -> Rows:
    """On the smoke tier a few of the rows, spread evenly; elsewhere all."""
    tier = tiers.current()
    if tier.name != "smoke":
        return rows
    # -(-a // b) rounds up, so that at most so many rows are left.
    return rows[:: -(-len(rows) // (tier.tune_records if split == "train" else tier.prompts))]


def with_tokens(records: Any, tokenizer: Any, max_length: int = TOKENS) -> tuple[Dataset, list]:
    """Questions and answers with the columns that a model trains on.

    The template is "qa". The loss is computed on both question and answer, as in the course; an end
    token follows, so that a model can learn to stop.

    Args:
        records: A data set, or a list of mappings, with `question`, `answer` and perhaps `input`.
        tokenizer: Of the model to be trained.
        max_length: The most tokens of a row; a longer one loses its end.

    Returns:
        The data set with `question`, `answer`, `input_ids`, `attention_mask` and `labels`, and the
        numbers of the records that are left out, because their question alone is longer.

    Raises:
        DataError, SettingError, TemplateError: see `encoding.encode`.
    """
    how = {"max_length": max_length, "too_long": "cut completion", "mask_prompt": False}
    found = encoding.encode(records, tokenizer, "qa", **how)
    kept = found.dataset
    rows = [records[place] for place in kept["record"]]
    for name in ("question", "answer"):
        kept = kept.add_column(name, [row[name] for row in rows])
    kept = kept.add_column("attention_mask", [[1] * length for length in kept["length"]])
    columns = ["question", "answer", "input_ids", "attention_mask", "labels"]
    return kept.select_columns(columns), found.left_out


def _tokenized(splits: dict[str, Rows]) -> dict[str, Rows]:
    """Questions and answers with token ids, as the course's own sets came with some."""
    return {split: with_tokens(rows, _tokenizer())[0].to_list() for split, rows in splits.items()}


@functools.cache
def _tokenizer() -> Any:
    """The packaged base model's."""
    return models.load_tokenizer(tiers.PAIRS["packaged"].base)


def _company_pairs() -> dict[str, Rows]:
    return _tokenized({split: pairs(split) for split in ("train", "test")})


def _club_pairs() -> dict[str, Rows]:
    return _tokenized({split: _few(club.records(split), split) for split in club.SPLITS})


def _c4() -> dict[str, Rows]:
    """The company's documents as plain text, in the columns of C4."""
    rows = [
        {"text": text, "timestamp": None, "url": f"documents/{path}"}
        for path, text in company.documents().items()
    ]
    return {"train": rows[:-4], "validation": rows[-4:]}  # C4 has no test split


def _pile() -> dict[str, Rows]:
    """The same in the columns of The Pile."""
    rows = [
        {"text": text, "meta": {"pile_set_name": path.partition("/")[0].removesuffix(".md")}}
        for path, text in company.documents().items()
    ]
    return {"train": rows[:-4], "validation": rows[-4:-2], "test": rows[-2:]}


def _alpaca(prompted: bool) -> dict[str, Rows]:
    """The small instruction set in the columns of Alpaca, or with its template filled in."""
    rows = []
    for record in company.records("seed_tasks"):
        it = templates.render(record, "alpaca")
        if prompted:
            rows.append({"input": it.prompt, "output": it.completion})
        else:
            own = {"instruction": record["instruction"], "input": record["input"]}
            rows.append(own | {"output": it.completion, "text": it.prompt + it.completion})
    return {"train": rows}


def _predictions() -> dict[str, Rows]:
    """Test questions, each with the answer of the most similar training question."""
    known = pairs("train")
    index = retrieval.Index([Passage(row["question"], "", "", n) for n, row in enumerate(known)])
    rows = []
    for record in pairs("test")[:PREDICTED]:
        hits = index.search(record["question"], k=1)
        predicted = known[hits[0].passage.number]["answer"] if hits else ""
        rows.append({"predicted_answer": predicted, "target_answer": record["answer"]})
    return {"train": rows}


_COMPANY = "the questions and answers of an invented company, Ferrowick"
_CLUB = "the questions and answers of an invented rowing club"
_TEXTS = "the documents of an invented company, Ferrowick"
_SEARCHED = "Ferrowick's test questions, answered by a search among its training questions"
_TASKS = "this project's small instruction set"

# For each data set: its substitute in words, and the function that makes its splits.
SUBSTITUTES: dict[str, tuple[str, Callable[[], dict[str, Rows]]]] = {
    "lamini/lamini_docs": (_COMPANY, _company_pairs),
    "lamini/taylor_swift": (_CLUB, _club_pairs),
    "lamini/bts": (_CLUB, _club_pairs),
    "lamini/open_llms": (_CLUB, _club_pairs),
    "lamini/lamini_docs_evaluation": (_SEARCHED, _predictions),
    "tatsu-lab/alpaca": (_TASKS, functools.partial(_alpaca, False)),
    "lamini/alpaca": (_TASKS, functools.partial(_alpaca, True)),
    "c4": (_TEXTS, _c4),
    "allenai/c4": (_TEXTS, _c4),
    "EleutherAI/pile": (_TEXTS, _pile),
    "EleutherAI/the_pile": (_TEXTS, _pile),
}


def load(name: str, split: Any = None, *, streaming: bool = False) -> Any:
    """The substitute for the data set `name`, as `datasets.load_dataset` would return it.

    Args:
        name: A key of `SUBSTITUTES`.
        split: A split ("train"), a part ("train[:10%]"), a sum of them ("train+test"), or a list
            of those; None for all in a dict.
        streaming: True gives iterable data sets.

    Raises:
        ValueError: there is no such split; the message lists the splits.
    """
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    rows = SUBSTITUTES[name][1]()
    parts = DatasetDict({key: Dataset.from_list(rows) for key, rows in rows.items()})
    if isinstance(split, list):
        return [_part(parts, one, streaming) for one in split]
    if split is not None:
        return _part(parts, split, streaming)
    if streaming:
        return IterableDatasetDict({k: part.to_iterable_dataset() for k, part in parts.items()})
    return parts


def _part(parts: DatasetDict, split: Any, streaming: bool) -> Any:
    """The records of a split or a part of it, in the syntax of `datasets`."""
    from datasets import ReadInstruction, concatenate_datasets

    sizes = {name: len(part) for name, part in parts.items()}
    wanted = ReadInstruction.from_spec(str(split)).to_absolute(sizes)
    chosen = concatenate_datasets(
        [parts[one.splitname].select(range(one.from_, one.to)) for one in wanted]
    )
    return chosen.to_iterable_dataset() if streaming else chosen
