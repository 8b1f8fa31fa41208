"""The tuned model against a prompt and against retrieval, on the test questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcourse import retrieval, templates
from llmcourse.errors import DataError
from llmcourse.own.sizes import Sizes, sizes
from llmcourse.stats import Share, rounded

if TYPE_CHECKING:
    import pandas

    from llmcourse.data import Passage
    from llmcourse.evaluation import Comparison, Method
    from llmcourse.models import LoadedModel

BRIEF = "Answer in one short sentence."  # what an untuned model is told with each question
PROMPT, SEARCH, TUNED, BOTH = "prompt", "prompt + retrieval", "tuned", "tuned + retrieval"
METRICS = ("f1", "chrf", "finished")  # and "facts", where the records have keys
COUNTED = ("facts", "finished")  # 0 or 1 for each answer
TESTED = ((TUNED, PROMPT), (TUNED, SEARCH), (BOTH, SEARCH), (BOTH, TUNED))  # compared in pairs


@dataclass(frozen=True)
class Assessment:
    """What came out, in plain numbers and texts that a JSON file can hold.

    Attributes:
        scores: Method -> metric -> mean, low and high end of the 95 % interval, and the `total`
            of records.
        costs: Method -> tokens read, tokens written and seconds, each a question on average.
        mistakes: Method -> kind of mistake (`evaluation.label`) -> how many answers have it.
        tests: first and second way, metric, difference, low, high: paired, question by question.
        rows: A test question each: question, reference, answers, values and errors by way.
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
        """The ways that were compared."""
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
        """A row a way: each metric with its interval, and what a question costs."""
        import pandas

        rows = {
            way: {name: score_text(score, name) for name, score in self.scores[way].items()}
            | {"tokens read": f"{cost['prompt_tokens']:.0f}",
               "tokens written": f"{cost['new_tokens']:.0f}",
               "seconds": f"{cost['seconds']:.2f}"}
            for way, cost in self.costs.items()
        }  # fmt: skip
        return pandas.DataFrame.from_dict(rows, orient="index")

    def worst(self, way: str = TUNED, count: int = 5) -> list[dict[str, Any]]:
        """The test questions that a way answers worst, the worst first."""

        def badness(row: Mapping[str, Any]) -> tuple[float, ...]:
            values = row["values"][way]
            return tuple(_number(values.get(name)) for name in (self.main, "f1", "chrf"))

        return sorted(self.rows, key=badness)[:count]

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return dataclasses.asdict(self)


def _number(value: float | None) -> float:
    """A number to sort by; none counts as the worst."""
    return -1.0 if value is None or value != value else value


def score_text(score: Mapping[str, float], metric: str) -> str:
    """A score with its interval, for people: of what is 0 or 1, how many."""
    if metric in COUNTED:
        return str(Share(round(score["mean"] * score["total"]), int(score["total"])))
    low, mean, high = (rounded(score[name]) for name in ("low", "mean", "high"))
    return f"{mean} ({low}–{high})"


def ways(
    model: LoadedModel,
    tuned: LoadedModel,
    passages: Sequence[Passage] = (),
    size: Sizes | None = None,
) -> dict[str, Method]:
    """The ways to ask that are compared: prompt, retrieval, tuned, and tuned with retrieval.

    The untuned model is told to be brief, which a prompt can do as well; the tuned one is asked
    the bare question.

    Args:
        model: A chat model.
        tuned: From `train`.
        passages: To search in; without them the two ways with retrieval are left out.
        size: Of the tier in force if not given.
    """
    from llmcourse.evaluation import Method

    size = size or sizes()
    found = {PROMPT: Method(model, prompt=_plain(BRIEF)), TUNED: Method(tuned)}
    if passages:
        index = retrieval.Index(passages)
        found = {
            PROMPT: found[PROMPT],
            SEARCH: Method(model, prompt=_searching(model, index, size, BRIEF)),
            TUNED: found[TUNED],
            BOTH: Method(tuned, prompt=_searching(tuned, index, size)),
        }
    return found


def _question(record: Mapping[str, Any]) -> str:
    """What a record asks: its question, and its input below."""
    parts = [templates.get_field(record, role, needed=role == "question")
             for role in ("question", "input")]  # fmt: skip
    return "\n".join(filter(str.strip, parts))


def _plain(told: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda record: f"{_question(record)} {told}".strip()


def _searching(
    model: LoadedModel, index: retrieval.Index, size: Sizes, told: str = ""
) -> Callable[[Mapping[str, Any]], str]:
    """Makes a prompt with passages, as many as the model can read."""
    room = model.context_length - size.new_tokens

    def prompt(record: Mapping[str, Any]) -> str:
        question = _question(record)
        return retrieval.prompt_with(
            f"{question} {told}".strip(), index.search(question, size.passages), room=room,
            tokenizer=model.tokenizer, template=model.template,
        )  # fmt: skip

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
    """Ask all ways the test questions and compare the answers with the wanted ones.

    Args:
        model: A chat model.
        tuned: From `train`.
        records: Test pairs; where all have `keys`, right facts are counted too.
        passages: To search in; see `ways`.
        size: Of the tier in force if not given.
        progress: False shows nothing.

    Raises:
        DataError: there are no test pairs, or none could be asked.
    """
    from llmcourse import evaluation

    size = size or sizes()
    asked = [_asked(record) for record in records]
    if not asked:
        raise DataError("There are no test pairs to ask.")
    wanted = (["facts"] if all("keys" in record for record in asked) else []) + list(METRICS)
    known = " ".join(passage.text for passage in passages)
    compared = evaluation.compare(
        ways(model, tuned, passages, size),
        asked,
        wanted,
        known=known,
        max_new_tokens=size.new_tokens,
        progress=progress,
    )
    return of(compared)


def _asked(record: Mapping[str, Any]) -> dict[str, Any]:
    """A test pair with the fields that evaluation reads; a field `fact` may mean anything here."""
    names = ("question", "input", "answer", "keys")
    return {name: record[name] for name in names if record.get(name)}


def of(compared: Comparison) -> Assessment:
    """A comparison as plain numbers and texts."""
    from llmcourse import evaluation

    scores, costs, mistakes = {}, {}, {}
    every = compared.evaluations
    first = next(iter(every.values()))
    for name, one in every.items():
        scores[name] = {m: dataclasses.asdict(one.scores[m]) for m in compared.metrics}
        good = one.table[one.table["error"] == ""]
        costs[name] = {m: float(good[m].mean()) for m in ("prompt_tokens", "new_tokens", "seconds")}
        mistakes[name] = dict(evaluation.counted(one.labels))
    rows = [
        {
            "question": record["question"], "reference": record.get("answer", ""),
            "answers": {name: str(one.table["answer"].iloc[n]) for name, one in every.items()},
            "errors": {name: str(one.table["error"].iloc[n]) for name, one in every.items()},
            "values": {name: {m: _plain_number(one.table[m].iloc[n]) for m in compared.metrics}
                       for name, one in every.items()},
        }
        for n, record in enumerate(first.records)
    ]  # fmt: skip
    seconds = sum(one.seconds for one in every.values())
    found = Assessment(scores, costs, mistakes, [], rows, seconds)
    for a, b in TESTED:
        if a in every and b in every and len(rows) > 1:
            difference = compared.test(a, b, found.main)
            found.tests.append({
                "first": a, "second": b, "metric": found.main,
                "difference": float(difference.difference), "low": float(difference.low),
                "high": float(difference.high), "p": float(difference.p),
            })  # fmt: skip
    return found


def _plain_number(value: Any) -> float | None:
    number = float(value)
    return None if number != number else number
