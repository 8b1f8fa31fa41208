"""Each kind of problem that `inspect` looks for: how many have it, what it means, examples."""

from __future__ import annotations

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

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SAMPLE = 2000  # records whose language is identified
SURE, CLEAR = 0.9, 0.99  # probability of a language to be counted, and to be reported as another
SHOWING = ("html", "encoding", *patterns.PERSONAL)  # what a text shows by itself
WHAT = {
    "unreadable": "Records that could not be used and are not in the data; fix them in the file.",
    "blank": "The question or the answer is empty, so there is nothing to learn; leave them out.",
    "overlong": "Longer than {longest} {unit}, question and answer together: `encode` leaves out "
    "what is too long; shorten or split them.",
    "html": "Tags or entities of web pages are left over, and a model learns to write them; "
    "`clean` takes them out.",
    "encoding": "Text was decoded wrongly or holds control characters; `clean` fixes what can be "
    "fixed.",
    "e-mail": "E-mail addresses, which a model may repeat to anybody; `clean` replaces them.",
    "card": "Payment card numbers, which must never be in training data; `clean` replaces them.",
    "IBAN": "Bank account numbers (IBAN), which a model may repeat; `clean` replaces them.",
    "phone": "Telephone numbers, which a model may repeat to anybody; `clean` replaces them.",
    "IP": "Internet addresses of machines, which can point to people; `clean` replaces them.",
    "date of birth": "Dates of birth, which a model may repeat; `clean` replaces them.",
    "address": "Street addresses, which a model may repeat; `clean` replaces all but those named "
    "in `keep`.",
    "duplicates": "Copies of other records ({groups:,} of them repeated): they count more in "
    "training and may fall into two splits; keep one of each.",
    "repeated questions": "The same question again with the same answer but for case and "
    "punctuation ({groups:,} repeated); keep one of each.",
    "contradictions": "Questions with different answers ({several:,} records): settle which is "
    "right, unless several are.",
    "near-duplicates": "Nearly the same as another record ({groups} have such copies): look at "
    "them, and keep one of each.",
    "leaked": "Test questions that are in the training data too: the test would measure memory; "
    "take them out of one.",
    "nearly leaked": "Test questions that are nearly the same as one in the training data; look "
    "at them, and keep one of each.",
    "other language": "In another language than most ({main}), as counted {sample}{looked:,} "
    "records; leave them out where one language is wanted.",
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
    kind: str, records: Dataset, places: Iterable[int], count: int | None = None, **facts: Any
) -> Finding:
    """A finding with the first of the records at `places` as examples."""
    places = list(places)
    examples = (
        (place + 1, excerpt(*_masked(kind, texts_of(record))))
        for place, record in near_duplicates.rows(records, places[:3])
    )
    what = WHAT[kind].format(**facts)
    return Finding(kind, len(places) if count is None else count, what, tuple(examples))


def _masked(kind: str, texts: Mapping[str, str]) -> tuple[str, int]:
    """A record's text without personal data, and where in it the problem is to be seen."""
    for text in texts.values():
        masked = patterns.masked(text)
        if kind in patterns.PERSONAL and f"[{kind}]" in masked:
            return masked, masked.index(f"[{kind}]")
        if kind == "html" and (spans := patterns.markup(masked)):
            return masked, spans[0][0]
        if kind == "encoding" and patterns.is_garbled(text):
            odd = re.search(r"[^\x20-\x7e\s]", masked)
            return masked, odd.start() if odd else 0
    return " ".join(filter(str.strip, map(patterns.masked, texts.values()))) or "(blank)", 0


def excerpt(text: str, place: int = 0, longest: int = 80) -> str:
    """At most `longest` characters of `text` around a place, in one line that is safe to print."""
    start = max(0, place - longest // 3) if len(text) > longest else 0
    piece = "".join(
        sign if sign.isprintable() else "\ufffd" if sign.strip() else " "
        for sign in text[start : start + 4 * longest]
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
    """A row for each record: its `near_duplicates.keys`, lengths, and problems of `SHOWING`.

    Args:
        records: What `as_records` gives.
        tokenizer: Counts lengths in tokens; None counts words.
        questions: True adds the bands of what is asked.
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
    asked = ["question", "context"]
    several = table[table.duplicated(asked, keep=False)]
    questions = len(several.drop_duplicates(asked))
    found = _finding(
        "contradictions", records, several.index, count=questions, several=len(several)
    )
    excused = table.question[table.question.duplicated(keep=False)].nunique() - questions
    if excused > 0:
        unread = ", ".join(near_duplicates.context_columns(records))
        more = (
            f" {excused:,} more have different answers beside another {unread}, which no template "
            f"reads: put that into `input`."
        )
        found = Finding(found.kind, found.count, found.what + more, found.examples)
    yield found
    yield _near_duplicates(records, table)


def _near_duplicates(records: Dataset, table: pandas.DataFrame) -> Finding:
    """Of each group of records that are nearly the same, all but the first."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = near_duplicates.candidates(table[RECORD])
    asked = table.question.to_dict()
    apart = [pair for pair in pairs if asked[pair[0]] != asked[pair[1]]]  # else contradictions
    near = list(
        near_duplicates.near(apart, records, records, lambda r: " ".join(texts_of(r).values()))
    )
    first, second = np.array(near, dtype=int).reshape(-1, 2).T
    size = (len(records), len(records))
    _, group = connected_components(coo_array((np.ones(len(near)), (first, second)), size))
    places = np.unique(np.concatenate([first, second]))
    _, firsts = np.unique(group[places], return_index=True)
    groups = f"{'at least ' if len(pairs) == MOST_PAIRS else ''}{len(firsts):,}"
    return _finding("near-duplicates", records, np.delete(places, firsts), groups=groups)


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
        others = as_records(test)
        held = measured(others, None, questions=True, workers=workers)
    elif "split" in records.column_names:
        splits = _splits(records)
        held = table[[name not in ("", "train") for name in splits]]
        table = table[[name == "train" for name in splits]]
    held = held[~held.blank]
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
        table.groupby(name)
        .head(3)[[name]]
        .reset_index()  # of a bucket of many, three are enough
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

    Identified by langid (Lui and Baldwin 2012) in its Python 3 form, in records with five words or
    more. A record counts as one in another language only where it has eight words or more and its
    language is clear. A language of fewer than 1 % is more often a mistake, and counts as "other".
    """
    import numpy as np

    places = np.arange(len(records))
    if len(records) > SAMPLE:
        places = np.random.default_rng(0).choice(len(records), SAMPLE, replace=False)
    counts: Counter[str] = Counter()
    clear: list[tuple[int, str]] = []
    for place, record in near_duplicates.rows(records, places):
        text = " ".join(texts_of(record).values())
        words = len(re.findall(r"[^\W\d_]{2,}", text))
        if words < 5:
            continue
        language, probability = _identifier().classify(text[:2000])
        counts[language] += probability >= SURE
        if probability >= CLEAR and words >= 8:
            clear.append((place, language))
    shares: dict[str, float] = {}
    for name, count in counts.most_common():
        if count:
            kept = name if count / counts.total() >= 0.01 else "other"
            shares[kept] = shares.get(kept, 0) + count / counts.total()
    main = next(iter(shares), "")
    others = [place for place, language in clear if language != main]
    sample = "in the sample of " if len(places) < len(records) else "among all "
    facts = {"main": main or "unknown", "sample": sample, "looked": len(places)}
    return shares, _finding("other language", records, others, **facts)


@cache
def _identifier() -> Any:
    """Identifies languages, each with its probability."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
