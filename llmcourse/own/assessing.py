"""The tuned model against look-up, a prompt and retrieval, on the test questions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, retrieval, templates
from llmcourse.data.records import as_records
from llmcourse.evaluation import Comparison, Evaluation, Method, compare, keys_of, measured
from llmcourse.generation import Answer
from llmcourse.own.training import Sizes, sizes
from llmcourse.stats import LEVEL, Paired

if TYPE_CHECKING:
    import pandas

    from llmcourse.data import Passage
    from llmcourse.models import LoadedModel

# Follows each question to an untuned model. It costs nothing, and without it a small chat model
# writes until the limit stops it: the tuned model would win by length alone.
BRIEF = "Answer in one short sentence."
LOOK_UP, PROMPT, SEARCH, TUNED, BOTH = METHODS = (  # the one with the least work first
    "look-up",
    "prompt",
    "prompt + retrieval",
    "tuned",
    "tuned + retrieval",
)
# Of the example company's validation questions look-up answers 79 % rightly, 76 % with this
# threshold; of those whose fact was taken out first, 18 % are then known to be unknown.
SIMILAR, UNKNOWN = 0.5, "I don't know."
# The first is the one that tests go by; "facts" comes before it where the records have keys.
METRICS = ("f1", "chrf", "finished")
# The questions behind the course's key question: is tuning better than what needs no training, and
# does it add to retrieval?
TESTED = ((TUNED, LOOK_UP), (TUNED, PROMPT), (TUNED, SEARCH), (BOTH, SEARCH), (BOTH, TUNED))
COSTS = {"prompt_tokens": "tokens read", "new_tokens": "tokens written", "seconds": "seconds"}


class Assessment(Comparison):
    """The methods on the test questions, with what a question costs."""

    @property
    def methods(self) -> list[str]:
        """Their names."""
        return list(self.evaluations)

    @property
    def caution(self) -> str:
        """What the scores can't tell, in a sentence or two; "" where facts were checked."""
        if self.main == "facts":
            return ""
        return (
            "The test pairs have no keys, so facts were not checked: a wrong answer in the right "
            "words scores high. Give them a column keys: what a right answer must contain."
        )

    @cached_property
    def tests(self) -> dict[tuple[str, str], Paired]:
        """First and second method -> how they differ in the main metric, question by question."""
        pairs = [pair for pair in TESTED if set(pair) <= self.evaluations.keys()]
        return {pair: self.test(*pair) for pair in pairs}

    @property
    def recommendation(self) -> str:
        """What scored highest, what it beats, and what is less work and not clearly worse."""
        best = max(self.methods, key=lambda name: self[name].scores[self.main].mean)
        tests = {name: self.test(best, name) for name in self.methods if name != best}
        # the best was chosen by these answers: each pair could have been (Bonferroni)
        level = LEVEL / math.comb(len(self.methods), 2)
        beaten = [n for n, test in tests.items() if test.difference > 0 and test.p < level]
        text = f"Highest in {self.main}: {best} ({self.score(best, self.main)})."
        if beaten:
            text += f" It beats {', '.join(beaten)}."
        easier = METHODS[: METHODS.index(best)]
        close = [name for name in easier if name in self.methods and name not in beaten]
        if close:
            text += (
                f" These {len(self.answers())} questions can't tell it from {', '.join(close)}: "
                f"start with {close[0]}, which is the least work, and write more test questions."
            )
        return text

    def score(self, method: str, metric: str) -> str:
        """A method's mean with its interval; of what is 0 or 1, how many of how many."""
        one = self[method]
        return str(one.share(metric) if metric in ("facts", "finished") else one.scores[metric])

    def table(self) -> pandas.DataFrame:
        """A row per method: each metric with its interval, and what a question costs on average."""
        import pandas

        rows = {}
        for method, one in self.evaluations.items():
            # A question that could not be asked cost nothing, and would lower the mean.
            costs = one.table.loc[one.table["error"] == "", list(COSTS)].mean()
            rows[method] = {metric: self.score(method, metric) for metric in self.metrics}
            rows[method] |= {name: f"{costs[column]:.3g}" for column, name in COSTS.items()}
        return pandas.DataFrame.from_dict(rows, orient="index")

    def answers(self) -> pandas.DataFrame:
        """A row per test question: question, reference, and a column per method."""
        first = next(iter(self.evaluations.values()))
        table = first.table[["question", "reference"]].copy()
        for name, one in self.evaluations.items():
            errors = "(not answered: " + one.table["error"] + ")"
            table[name] = one.table["answer"].where(one.table["error"] == "", errors)
        return table

    def worst(self, count: int = 5) -> pandas.DataFrame:
        """The rows of `answers` that the tuned model answers worst, the worst first."""
        by = list(dict.fromkeys([self.main, "f1", "chrf"]))  # the later ones break ties
        order = self[TUNED].table.sort_values(by).index
        return self.answers().loc[order[:count]]


def _methods(
    model: LoadedModel, tuned: LoadedModel, passages: Sequence[Passage], size: Sizes
) -> dict[str, Method]:
    """The methods with a model: prompt, retrieval, tuned, and tuned with retrieval.

    The untuned model is asked to be brief, as any prompt could; the tuned one gets the bare
    question.
    """
    methods = {PROMPT: Method(model, prompt=lambda record: _changed(record, BRIEF))}
    if not passages:
        return methods | {TUNED: Method(tuned)}
    index = retrieval.Index(passages)
    methods[SEARCH] = Method(model, prompt=_searching(model, index, size, BRIEF))
    return methods | {
        TUNED: Method(tuned),
        BOTH: Method(tuned, prompt=_searching(tuned, index, size)),
    }


def look_up(
    known: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
) -> list[Answer]:
    """The answer of the most similar known question, or `UNKNOWN` where none is similar.

    Args:
        known: Pairs of question and answer, such as those that were trained on.
        records: To answer.
    """
    start, asked = time.perf_counter(), list(map(_question, records))
    # A known question is compared with its input, as the new one is.
    pairs = [{"question": _question(pair), "answer": pair["answer"]} for pair in known]
    matches = retrieval.nearest(pairs, SIMILAR)(asked)
    seconds = (time.perf_counter() - start) / len(asked)
    return [
        Answer(text, text, match.answer or UNKNOWN, True, 0, 0, seconds)
        for text, match in zip(asked, matches, strict=True)
    ]


def _question(record: Mapping[str, Any]) -> str:
    """What a record asks: its question, and its input below."""
    return "\n".join(filter(str.strip, (record["question"], record.get("input") or "")))


def _changed(record: Mapping[str, Any], brief: str) -> dict[str, Any]:
    """The record with `brief` after its question; the turns before the question stay."""
    return {**record, "question": f"{_question(record)} {brief}".strip(), "input": ""}


def _searching(
    model: LoadedModel, index: retrieval.Index, size: Sizes, brief: str = ""
) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Puts passages before a record's question, as many as the model can read."""

    def prompt(record: Mapping[str, Any]) -> Mapping[str, Any]:
        changed = _changed(record, brief)

        # Counted as the model will read it: with its template, and the turns before.
        def count(text: str) -> int:
            prompt = {**changed, "question": text}
            rendered = templates.render(prompt, model.template, tokenizer=model.tokenizer)
            # No text has more tokens than bytes: most need not be tokenized to see that they fit.
            most = len(rendered.prompt.encode())
            return most if most < room else len(encoding.prompt_ids(rendered, model.tokenizer))

        hits = index.search(_question(record), size.passages)
        room = model.context_length - size.new_tokens
        text = retrieval.prompt_with(changed["question"], hits, room=room, count=count)
        return {**changed, "question": text}

    return prompt


def assess(
    model: LoadedModel,
    tuned: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    passages: Sequence[Passage] = (),
    size: Sizes | None = None,
    *,
    known: Sequence[Mapping[str, Any]] = (),
) -> Assessment:
    """Ask all test questions with every method and compare the answers with the reference.

    Args:
        model: A chat model.
        tuned: From `train`.
        records: Test pairs; where all have `keys`, right facts are counted too.
        passages: To search in; without them the two methods with retrieval are left out.
        size: Of the tier in force if not given.
        known: The pairs that were trained on: look-up answers with the nearest one's answer.
            Without them it is left out.

    Raises:
        DataError: there are no test pairs, or none could be answered.
    """
    size, rows = size or sizes(), list(as_records(records))
    metrics = ["facts", *METRICS] if all(map(keys_of, rows)) else list(METRICS)
    # Names and terms of the documents are no spelling mistakes.
    spelt = " ".join(passage.text for passage in passages)
    compared: dict[str, Method | Evaluation] = {}
    if known:
        compared[LOOK_UP] = measured(rows, look_up(known, rows), metrics, LOOK_UP, spelt)
    compared.update(_methods(model, tuned, passages, size))
    comparison = compare(
        compared,
        rows,
        metrics,
        known=spelt,
        max_new_tokens=size.new_tokens,
    )
    return Assessment(comparison.evaluations)
