"""Each kind of problem that `inspect` looks for: how many have it, what it means, examples."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llmcourse.data import near_duplicates, patterns
from llmcourse.data.near_duplicates import MOST_PAIRS, QUESTION, RECORD
from llmcourse.data.records import as_records, question_of, text_fields, texts_of
from llmcourse.data.tables import mapped, token_counts
from llmcourse.words import size

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SAMPLE = 2000  # records whose language is identified
SHOWING = ("html", "encoding", *patterns.PERSONAL)  # what a text shows by itself
WHAT = {  # each fits into a line of a terminal
    "unreadable": "Records that can't be used and are not in the data; fix the file.",
    "blank": "No question or no answer, so nothing to learn; leave them out.",
    "overlong": "Over {longest} {unit} in all, which `encode` leaves out; shorten them.",
    "html": "Left-over HTML, which a model learns to write; use `clean`.",
    "encoding": "Wrongly decoded text or control characters; use `clean`.",
    "e-mail": "E-mail addresses, which a model may repeat to anybody; use `clean`.",
    "card": "Payment card numbers must never be in training data; use `clean`.",
    "IBAN": "Bank account numbers, which a model may repeat; use `clean`.",
    "phone": "Telephone numbers, which a model may repeat; use `clean`.",
    "IP": "Addresses of machines, which can point to people; use `clean`.",
    "date of birth": "Dates of birth, which a model may repeat; use `clean`.",
    "address": "Street addresses; `clean` masks all but those in `keep`.",
    "duplicates": "Copies of {groups:,} records, which may fall into two splits.",
    "repeated questions": "The same but for case and punctuation; keep one of each.",
    "contradictions": "Different answers to one question ({several:,} records); settle them.",
    "near-duplicates": "Nearly the same as another record{least}; keep one of each.",
    "leaked": "Test questions that are in the training data too; take them out.",
    "nearly leaked": "Test questions nearly the same as one in the training data.",
    "other language": "Not in the main language ({main}), {sample}{looked:,} records.",
}


@dataclass(frozen=True)
class Finding:
    """One kind of problem in a data set.

    Attributes:
        kind: Its name, such as "duplicates" or "e-mail".
        count: How many records have it; 0 where none has. Of copies the first is not counted,
            of contradictions the questions are, of languages only those in a sample.
        what: What it means and the way out, in a sentence.
        examples: Up to three records, as (number from 1, excerpt); personal data is masked.
    """

    kind: str
    count: int
    what: str
    examples: tuple[tuple[int, str], ...] = ()


def _finding(
    kind: str, records: Dataset, places: Iterable[int], count: int = -1, **facts: Any
) -> Finding:
    """A finding with the first of the records at `places` as examples; `count` if not all count."""
    places = list(places)
    examples = (
        (place + 1, _example(kind, texts_of(record)))
        for place, record in near_duplicates.rows(records, places[:3])
    )
    count = len(places) if count < 0 else count
    return Finding(kind, count, WHAT[kind].format(**facts), tuple(examples))


def _example(kind: str, texts: Mapping[str, str]) -> str:
    """An excerpt of a record, without personal data, that shows its problem where it can."""
    # what to look for: a mask, a tag or an entity, anything but plain ASCII
    forms = {"html": "[<&]", "encoding": r"[^\x20-\x7e\s]"}
    masked = [patterns.masked(text) for text in texts.values() if text.strip()]
    for text in masked:
        if match := re.search(forms.get(kind, re.escape(f"[{kind}]")), text):
            return excerpt(text, match.start())
    return excerpt(" ".join(masked)) or "(blank)"


def excerpt(text: str, place: int = 0, longest: int = 80) -> str:
    """At most `longest` characters of `text` around a place, in one line that is safe to print."""
    start = max(0, place - longest // 3) if len(text) > longest else 0
    # a control sequence could recolour a terminal or rewrite what it shows
    piece = "".join(
        one if one.isprintable() else "\ufffd" if one.strip() else " "
        for one in text[start : start + 4 * longest]
    )
    piece = ("…" if start else "") + " ".join(piece.split())
    return piece if len(piece) <= longest else piece[: longest - 1] + "…"


# --- one record by itself -------------------------------------------------------------------------


def unreadable(problems: pandas.DataFrame | None) -> Finding:
    """What could not be loaded; examples have lines of the file.

    Args:
        problems: From `load_records(strict=False)`; None where nothing was left out.
    """
    rows = [] if problems is None else problems.to_dict("records")
    shown = ((r["line"], excerpt(f"{r['field']} {r['problem']}".strip())) for r in rows[:3])
    return Finding("unreadable", len(rows), WHAT["unreadable"], tuple(shown))


def measured(
    records: Dataset,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    questions: bool,
    workers: int | None,
) -> pandas.DataFrame:
    """A row for each record: its `near_duplicates.batch_keys`, lengths, and problems of `SHOWING`.

    Args:
        records: What `as_records` gives.
        tokenizer: Counts lengths in tokens; None counts words.
        questions: True adds the bands of the questions.
        workers: Processes; see `tables.mapped`.
    """
    kinds = near_duplicates.KEYS | dict.fromkeys(SHOWING, "bool")
    kinds |= dict.fromkeys(QUESTION if questions else (), "int64")
    kinds |= {"prompt length": "int32", "answer length": "int32"}
    job = functools.partial(_measure, tokenizer=tokenizer, questions=questions)
    return mapped(near_duplicates.compared(records), job, kinds, workers, "Inspecting").to_pandas()


def _measure(
    batch: dict[str, list[Any]],
    _: list[int],
    tokenizer: PreTrainedTokenizerBase | None,
    questions: bool,
) -> dict[str, Any]:
    names = text_fields(batch)
    own = zip(*(batch[name] for name in names), strict=True)
    records = [texts_of(dict(zip(names, row, strict=True))) for row in own]
    shown = []
    for record in records:
        kinds = {kind for text in record.values() for kind in patterns.personal(text)[1]}
        kinds |= {"html"} if any(map(patterns.markup, record.values())) else set()
        kinds |= {"encoding"} if any(map(patterns.is_garbled, record.values())) else set()
        shown.append(kinds)
    return {
        **near_duplicates.batch_keys(batch, questions=questions),
        **{kind: [kind in kinds for kinds in shown] for kind in SHOWING},
        "prompt length": token_counts([question_of(record) for record in records], tokenizer),
        "answer length": token_counts([r.get("answer", "") for r in records], tokenizer),
    }


def single(records: Dataset, table: pandas.DataFrame, longest: int, unit: str) -> Iterator[Finding]:
    """What a record has by itself.

    Args:
        records: All of them.
        table: What `measured` says of them.
        longest: In `unit`; a longer record is overlong.
        unit: "tokens" or "words".
    """
    overlong = table["prompt length"] + table["answer length"] > longest
    for kind in ("blank", "overlong", *SHOWING):
        places = table.index[overlong if kind == "overlong" else table[kind]]
        yield _finding(kind, records, places, longest=longest, unit=unit)


# --- records beside each other --------------------------------------------------------------------


def copies(records: Dataset, table: pandas.DataFrame) -> Iterator[Finding]:
    """The same records, the same questions, contradictions, and nearly the same records.

    Each record counts once, under the first of these that fits.

    Args:
        records: All of them.
        table: What `measured` says of them.
    """
    for kind, same in (("duplicates", ["record"]), ("repeated questions", ["question", "answer"])):
        again = table.duplicated(same)
        groups = len(table[again].drop_duplicates(same))
        yield _finding(kind, records, table.index[again], groups=groups)
        table = table[~again & ~table.blank]
    same = ["question", "context"]
    several = table[table.duplicated(same, keep=False)]
    questions = len(several.drop_duplicates(same))
    found = _finding(
        "contradictions", records, several.index, count=questions, several=len(several)
    )
    # the same question in another context, such as a passage, may well have another answer
    excused = table.question[table.question.duplicated(keep=False)].nunique() - questions
    if excused > 0:
        columns = ", ".join(near_duplicates.context_columns(records))
        more = f" {excused:,} more differ in {columns}, which no template reads: use `input`."
        found = dataclasses.replace(found, what=found.what + more)
    yield found
    yield _near_duplicates(records, table)


def _near_duplicates(records: Dataset, table: pandas.DataFrame) -> Finding:
    """The records that are nearly the same as an earlier one."""
    pairs = near_duplicates.candidates(table[RECORD])
    question = table.question.to_dict()
    # with the same question they are contradictions, which are reported by themselves
    apart = [pair for pair in pairs if question[pair[0]] != question[pair[1]]]
    near = near_duplicates.near(apart, records, records, lambda r: " ".join(texts_of(r).values()))
    least = " (or more: the search was cut short)" if len(pairs) == MOST_PAIRS else ""
    return _finding("near-duplicates", records, sorted({later for _, later in near}), least=least)


def leaks(
    records: Dataset, table: pandas.DataFrame, test: Any, workers: int | None
) -> Iterator[Finding]:
    """Test records whose question is in the training data, the same or nearly.

    Args:
        records: The training data, or with `test` not given all splits.
        table: What `measured` says of them, the bands of their questions too.
        test: Records that must not be in the training data.
        workers: For reading `test`.
    """
    others, held = records, table.head(0)
    if test is not None:
        others = as_records(test, may_be_blank=True)
        held = measured(others, None, questions=True, workers=workers)
    elif "split" in records.column_names:
        splits = _splits(records)
        trained = [name.startswith("train") for name in splits]
        held = table[[bool(name) and not own for name, own in zip(splits, trained, strict=True)]]
        table = table[trained]
    held = held[~held.blank]  # a blank question is in every data set
    known = held.question.isin(table.question)
    near: set[int] = set()
    if len(held) and len(table):
        pairs = _likely_leaks(table.drop_duplicates("question"), held[~known])
        near = {place for _, place in near_duplicates.near(pairs, records, others, question_of)}
    yield _finding("leaked", others, held.index[known])
    yield _finding("nearly leaked", others, sorted(near))


def _likely_leaks(table: pandas.DataFrame, held: pandas.DataFrame) -> list[tuple[int, int]]:
    """Pairs of a training record and a test record whose questions share a band."""
    import pandas

    pairs = [
        # of a bucket of many, three are enough
        table.groupby(name)
        .head(3)[[name]]
        .reset_index()
        .merge(held[[name]].reset_index(), on=name, suffixes=("", " held"))
        .drop(columns=name)
        for name in QUESTION
    ]
    found = pandas.concat(pairs).drop_duplicates().head(MOST_PAIRS)
    return list(found.itertuples(index=False, name=None))


def _splits(records: Dataset) -> list[str]:
    """The name of the split of each record, in small letters; "" where it has none."""
    kind, values = records.features["split"], records["split"][:]
    if hasattr(kind, "int2str"):
        values = (None if value is None else kind.int2str(value) for value in values)
    return ["" if value is None else str(value).strip().lower() for value in values]


# --- languages ------------------------------------------------------------------------------------


def languages(records: Dataset) -> tuple[dict[str, float], Finding]:
    """The shares of languages in a sample, the largest first, and what is in another than most.

    Identified by langid (Lui and Baldwin 2012) in its Python 3 form. Only records of eight words or
    more whose language is certain to 99 % are counted, and no language of fewer than 1 % of them.
    """
    import numpy as np

    places = np.arange(len(records))
    if len(records) > SAMPLE:
        # enough to know a share to about two per cent
        places = np.random.default_rng(0).choice(len(records), SAMPLE, replace=False)
    found: dict[int, str] = {}
    for place, record in near_duplicates.rows(records, places):
        text = " ".join(texts_of(record).values())
        if size(re.sub(r"[\W\d_]+", " ", text)) >= 8:  # fewer words are often misjudged
            language, probability = _identifier().classify(text[:2000])
            if probability >= 0.99:
                found[place] = language
    counts = Counter(found.values())
    shares = {name: count / counts.total() for name, count in counts.most_common()}
    shares = {name: share for name, share in shares.items() if share >= 0.01}
    main = next(iter(shares), "unknown")
    others = [place for place, language in found.items() if language != main]
    sample = "in a sample of " if len(places) < len(records) else "among all "
    return shares, _finding(
        "other language", records, others, main=main, sample=sample, looked=len(places)
    )


@cache
def _identifier() -> Any:
    """Identifies languages, each with its probability."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
