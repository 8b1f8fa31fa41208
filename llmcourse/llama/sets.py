"""The data sets that the course's notebooks load, and what of this project's own stands in.

A stand-in has the column names and the splits of the data set whose part it plays; its texts are
those of the invented company and club, so that a notebook runs without a network. On the smoke
tier, which tests use, questions and answers are only a few.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import club, company, encoding, models, retrieval, templates, tiers
from llmcourse.data.documents import Passage

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Rows = list[dict[str, Any]]
TOKENS = 2048  # the most that a row of a question-and-answer set has
PREDICTED = 100  # rows of predictions that are made up by searching
# Names that the hub has changed since the course was made.
MOVED = {"c4": "allenai/c4"}


@dataclass(frozen=True)
class StandIn:
    """What plays the part of a data set that can't be had.

    Attributes:
        text: What it is, to finish a sentence with.
        build: Makes the rows of every split.
    """

    text: str
    build: Callable[[], dict[str, Rows]]


def pairs(split: str) -> list[dict[str, str]]:
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
    wanted = tier.tune_records if split == "train" else tier.prompts
    return rows[:: -(-len(rows) // wanted)]


def with_tokens(records: Any, tokenizer: Any, max_length: int = TOKENS) -> tuple[Dataset, list]:
    """Questions and answers with the columns that a model trains on.

    The template is "qa". The loss is computed on question and answer alike, as the course did; an
    end token follows, so that a model can learn to stop.

    Args:
        records: A data set, or a list of mappings, with `question`, `answer` and perhaps `input`.
        tokenizer: Of the model to be trained.
        max_length: The most tokens of a row; what is longer loses its end.

    Returns:
        The data set with `question`, `answer`, `input_ids`, `attention_mask` and `labels`, and the
        numbers of the records that are left out, as their question alone is longer.

    Raises:
        DataError, SettingError, TemplateError: see `encoding.encode`.
    """
    from datasets import Dataset, concatenate_datasets

    found = encoding.encode(
        records, tokenizer, "qa", max_length=max_length, too_long="cut completion",
        mask_prompt=False,
    )  # fmt: skip
    rows = [records[place] for place in found.dataset["record"]]
    texts = {name: [row[name] for row in rows] for name in ("question", "answer")}
    masks = [[1] * length for length in found.dataset["length"]]
    parts = [
        Dataset.from_dict(texts), found.dataset.select_columns("input_ids"),
        Dataset.from_dict({"attention_mask": masks}), found.dataset.select_columns("labels"),
    ]  # fmt: skip
    return concatenate_datasets(parts, axis=1), found.left_out


def _documents() -> dict[str, Rows]:
    """The company's documents as plain text, in the columns of C4."""
    rows = [
        {"text": text, "timestamp": None, "url": f"documents/{path}"}
        for path, text in company.documents().items()
    ]
    return {"train": rows[:-4], "validation": rows[-4:]}


def _pile() -> dict[str, Rows]:
    """The company's documents in the columns of The Pile."""
    rows = [
        {"text": text, "meta": {"pile_set_name": path.partition("/")[0].removesuffix(".md")}}
        for path, text in company.documents().items()
    ]
    return {"train": rows[:-4], "validation": rows[-4:-2], "test": rows[-2:]}


def _company_pairs() -> dict[str, Rows]:
    """Questions and answers with token ids, as the course's own set came with some."""
    return _tokenized({split: pairs(split) for split in ("train", "test")})


def _club_pairs() -> dict[str, Rows]:
    """The same of the rowing club."""
    return _tokenized({split: _few(club.records(split), split) for split in club.SPLITS})


def _tokenized(splits: dict[str, Rows]) -> dict[str, Rows]:
    return {split: with_tokens(rows, _tokenizer())[0].to_list() for split, rows in splits.items()}


@functools.cache
def _tokenizer() -> Any:
    """That of the packaged base model."""
    return models.load_tokenizer(tiers.PAIRS["packaged"].base)


def _tasks() -> dict[str, Rows]:
    """The small instruction set, in the columns of Alpaca."""
    rows = []
    for record in company.records("seed_tasks"):
        rendered = templates.render(record, "alpaca")
        rows.append(
            {
                "instruction": record["instruction"], "input": record["input"],
                "output": record["answer"], "text": rendered.prompt + rendered.completion,
            }
        )  # fmt: skip
    return {"train": rows}


def _prompted_tasks() -> dict[str, Rows]:
    """The same with the template filled in: what the model reads, and what it should write."""
    rendered = [templates.render(record, "alpaca") for record in company.records("seed_tasks")]
    return {"train": [{"input": each.prompt, "output": each.completion} for each in rendered]}


def _predictions() -> dict[str, Rows]:
    """Test questions answered by a search: the answer of the training question most like each."""
    known = pairs("train")
    index = retrieval.Index(
        [Passage(row["question"], "", "", place) for place, row in enumerate(known)]
    )
    rows = []
    for record in pairs("test")[:PREDICTED]:
        hits = index.search(record["question"], k=1)
        predicted = known[hits[0].passage.number]["answer"] if hits else ""
        rows.append({"predicted_answer": predicted, "target_answer": record["answer"]})
    return {"train": rows}


_COMPANY = StandIn("the questions and answers of an invented company, Ferrowick", _company_pairs)
_CLUB = StandIn("the questions and answers of an invented rowing club", _club_pairs)
_C4 = StandIn("the documents of an invented company, Ferrowick", _documents)
_PILE = StandIn("the documents of an invented company, Ferrowick", _pile)

STAND_INS: dict[str, StandIn] = {
    "lamini/lamini_docs": _COMPANY,
    "lamini/taylor_swift": _CLUB,
    "lamini/bts": _CLUB,
    "lamini/open_llms": _CLUB,
    "lamini/lamini_docs_evaluation": StandIn(
        "Ferrowick's test questions, answered by a search among its training questions",
        _predictions,
    ),
    "tatsu-lab/alpaca": StandIn("this project's small instruction set", _tasks),
    "lamini/alpaca": StandIn("this project's small instruction set", _prompted_tasks),
    "c4": _C4,
    "allenai/c4": _C4,
    "EleutherAI/pile": _PILE,
    "EleutherAI/the_pile": _PILE,
}


def load(name: str, split: Any = None, *, streaming: bool = False) -> Any:
    """What stands in for the data set `name`, as `datasets.load_dataset` would give it.

    Args:
        name: A key of `STAND_INS`.
        split: A split ("train"), a part ("train[:10%]"), a sum of them ("train+test"), or a list
            of those; None for all in a dict.
        streaming: True gives iterable data sets.

    Raises:
        ValueError: there is no such split; the message lists those there are.
    """
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    parts = {key: Dataset.from_list(rows) for key, rows in STAND_INS[name].build().items()}
    if isinstance(split, list):
        return [_part(parts, one, streaming) for one in split]
    if split is not None:
        return _part(parts, split, streaming)
    if streaming:
        return IterableDatasetDict({k: part.to_iterable_dataset() for k, part in parts.items()})
    return DatasetDict(parts)


def _part(parts: dict[str, Dataset], split: Any, streaming: bool) -> Dataset | IterableDataset:
    """The records that `split` means, cut as `datasets` itself reads such a text."""
    from datasets import ReadInstruction, concatenate_datasets

    wanted = ReadInstruction.from_spec(str(split)).to_absolute(
        {name: len(part) for name, part in parts.items()}
    )
    chosen = concatenate_datasets(
        [parts[one.splitname].select(range(one.from_, one.to)) for one in wanted]
    )
    return chosen.to_iterable_dataset() if streaming else chosen
