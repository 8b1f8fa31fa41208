"""The tuned model against a prompt and against retrieval, on the test questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcourse import retrieval, templates
from llmcourse.errors import DataError
from llmcourse.own.training import Sizes, sizes
from llmcourse.stats import Share, rounded

if TYPE_CHECKING:
    import pandas

    from llmcourse.data import Passage
    from llmcourse.evaluation import Comparison, Method
    from llmcourse.models import LoadedModel

BRIEF = "Answer in one short sentence."  # follows each question to an untuned model
PROMPT, SEARCH, TUNED, BOTH = "prompt", "prompt + retrieval", "tuned", "tuned + retrieval"
METRICS = ("f1", "chrf", "finished")  # and "facts", where the records have keys
TESTED = ((TUNED, PROMPT), (TUNED, SEARCH), (BOTH, SEARCH), (BOTH, TUNED))  # compared in pairs


@dataclass(frozen=True)
class Assessment:
    """What came out, in plain numbers and texts that a JSON file can hold.

    Attributes:
        scores: Method -> metric -> mean, low and high end of the 95 % interval, and `total`.
        costs: Method -> tokens read, tokens written and seconds per question on average.
        mistakes: Method -> kind of mistake (`evaluation.label`) -> how many answers have it.
        tests: first and second method, metric, difference, low, high, p: paired by question.
        rows: Per test question: question, reference; answers, values and errors by method.
        seconds: How long all of it took.
    """

    scores: dict[str, dict[str, dict[str, float]]]
    costs: dict[str, dict[str, float]]
    mistakes: dict[str, dict[str, int]]
    tests: list[dict[str, Any]] = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)
    seconds: float

    @property
    def ways(self) -> list[str]:
        """The methods that were compared."""
        return list(self.scores)

    @property
    def main(self) -> str:
        """The metric that counts most: facts, where they could be checked."""
        known = next(iter(self.scores.values()))
        return "facts" if "facts" in known else next(iter(known))

    @property
    def caution(self) -> str:
        """What the scores can't tell, in a sentence or two; "" where facts were checked."""
        if self.main == "facts":
            return ""
        return (
            "The test pairs have no keys, so wrong facts were not looked for: words in common "
            "also like a wrong answer in the right words. A column keys in the file of test pairs "
            "(what a right answer must contain, such as 1,050) has the facts checked."
        )

    def table(self) -> pandas.DataFrame:
        """A row per method: each metric with its interval, and what a question costs."""
        import pandas

        rows = {}
        for way, cost in self.costs.items():
            rows[way] = {name: score_text(score, name) for name, score in self.scores[way].items()}
            rows[way]["tokens read"] = f"{cost['prompt_tokens']:.0f}"
            rows[way]["tokens written"] = f"{cost['new_tokens']:.0f}"
            rows[way]["seconds"] = f"{cost['seconds']:.2f}"
        return pandas.DataFrame.from_dict(rows, orient="index")

    def worst(self, way: str = TUNED, count: int = 5) -> list[dict[str, Any]]:
        """The test questions that a method answers worst, the worst first."""

        def quality(row: Mapping[str, Any]) -> list[float]:
            values = [row["values"][way].get(name) for name in (self.main, "f1", "chrf")]
            return [-1.0 if value is None else value for value in values]  # not answered

        return sorted(self.rows, key=quality)[:count]


def score_text(score: Mapping[str, float], metric: str) -> str:
    """A score with its interval, for people: of what is 0 or 1, how many."""
    if metric in ("facts", "finished"):
        return str(Share(round(score["mean"] * score["total"]), int(score["total"])))
    low, mean, high = (rounded(score[name]) for name in ("low", "mean", "high"))
    return f"{mean} ({low}–{high})"


def ways(
    model: LoadedModel,
    tuned: LoadedModel,
    passages: Sequence[Passage] = (),
    size: Sizes | None = None,
) -> dict[str, Method]:
    """The methods that are compared: prompt, retrieval, tuned, and tuned with retrieval.

    The untuned model is asked to be brief, as any prompt could; the tuned one gets the bare
    question.

    Args:
        model: A chat model.
        tuned: From `train`.
        passages: To search in; without them the two methods with retrieval are left out.
        size: Of the tier in force if not given.
    """
    from llmcourse.evaluation import Method

    size = size or sizes()
    result = {PROMPT: Method(model, prompt=lambda record: f"{_question(record)} {BRIEF}")}
    if not passages:
        return result | {TUNED: Method(tuned)}
    index = retrieval.Index(passages)
    result[SEARCH] = Method(model, prompt=_searching(model, index, size, BRIEF))
    return result | {
        TUNED: Method(tuned),
        BOTH: Method(tuned, prompt=_searching(tuned, index, size)),
    }


def _question(record: Mapping[str, Any]) -> str:
    """What a record asks: its question, and its input below."""
    question = templates.get_field(record, "question")
    given = templates.get_field(record, "input", needed=False)
    return "\n".join(filter(str.strip, (question, given)))


def _searching(
    model: LoadedModel, index: retrieval.Index, size: Sizes, brief: str = ""
) -> Callable[[Mapping[str, Any]], str]:
    """Makes a prompt with passages, as many as the model can read."""
    room = model.context_length - size.new_tokens
    how = {"room": room, "tokenizer": model.tokenizer, "template": model.template}

    def prompt(record: Mapping[str, Any]) -> str:
        question = _question(record)
        hits = index.search(question, size.passages)
        return retrieval.prompt_with(f"{question} {brief}".strip(), hits, **how)

    return prompt


def assess(
    model: LoadedModel,
    tuned: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    passages: Sequence[Passage] = (),
    size: Sizes | None = None,
    *,
    progress: bool = True,
) -> Assessment:
    """Ask all test questions with every method and compare the answers with the reference.

    Args:
        model: A chat model.
        tuned: From `train`.
        records: Test pairs; where all have `keys`, right facts are counted too.
        passages: To search in; see `ways`.
        size: Of the tier in force if not given.
        progress: False shows nothing.

    Raises:
        DataError: there are no test pairs, or none could be answered.
    """
    from llmcourse import evaluation

    size = size or sizes()
    # Only what evaluation reads: a field `fact` may mean anything here.
    names = ("question", "input", "answer", "keys")
    tests = [{name: record[name] for name in names if record.get(name)} for record in records]
    if not tests:
        raise DataError("There are no test pairs to ask.")
    metrics = ["facts", *METRICS] if all("keys" in record for record in tests) else [*METRICS]
    how = {"known": " ".join(p.text for p in passages), "max_new_tokens": size.new_tokens}
    methods = ways(model, tuned, passages, size)
    return assessment_of(evaluation.compare(methods, tests, metrics, progress=progress, **how))


def assessment_of(compared: Comparison) -> Assessment:
    """A comparison as plain numbers and texts."""
    from llmcourse import evaluation

    every, metrics = compared.evaluations, compared.metrics
    scores, costs, mistakes, tables = {}, {}, {}, {}
    for name, one in every.items():
        tables[name] = one.table.astype(object).where(one.table.notna(), None)
        scores[name] = {m: dataclasses.asdict(one.scores[m]) for m in metrics}
        good = one.table[one.table["error"] == ""]
        costs[name] = {m: float(good[m].mean()) for m in ("prompt_tokens", "new_tokens", "seconds")}
        mistakes[name] = dict(evaluation.counted(one.labels))
    rows = []
    for number, record in enumerate(next(iter(every.values())).records):
        cells = {name: table.iloc[number] for name, table in tables.items()}
        row = {"question": record["question"], "reference": record.get("answer", "")}
        row["answers"] = {name: cell["answer"] for name, cell in cells.items()}
        row["errors"] = {name: cell["error"] for name, cell in cells.items()}
        row["values"] = {name: {m: cell[m] for m in metrics} for name, cell in cells.items()}
        rows.append(row)
    result = Assessment(scores, costs, mistakes, [], rows, sum(o.seconds for o in every.values()))
    for first, second in TESTED if len(rows) > 1 else ():
        if first in every and second in every:
            test = compared.test(first, second, result.main)
            numbers = {n: float(getattr(test, n)) for n in ("difference", "low", "high", "p")}
            result.tests.append({"first": first, "second": second, "metric": result.main} | numbers)
    return result
