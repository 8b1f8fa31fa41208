"""The ledger: each claim the course makes, with the number this machine measured for it.

One JSON file a tier, in the work folder. A lesson calls `record`; `python -m llmcourse results`
prints the ledger, and each lesson ends with its own rows.
"""

from __future__ import annotations

import json
import math
import operator
import platform
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import __version__, tiers
from llmcourse.errors import ClaimError
from llmcourse.files import lock, work_dir, write_json

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Claim:
    """One thing the course says.

    Attributes:
        text: The claim, in our words.
        measured: What is measured for it.
        lesson: Number of the lesson that records it.
    """

    text: str
    measured: str
    lesson: str


CLAIMS: dict[str, Claim] = {
    "base-continues": Claim(
        "A base model continues text, a chat model answers",
        "share of prompts that end by themselves; share of repeated 4-grams",
        "01",
    ),
    "question-breeds-questions": Claim(
        "Asked a question, a base model may answer with more questions",
        "share of continuations that are questions, or contain one",
        "01",
    ),
    "tags-matter": Claim(
        "The same chat model needs its instruction tags",
        "share of outputs that complete the sentence rather than answer it, with and without",
        "01",
    ),
    "hallucination": Claim(
        "A prompted model makes things up about private data",
        "exact-fact accuracy; share of confident wrong answers",
        "07",
    ),
    "learns-new-information": Claim(
        "Fine-tuning teaches new facts",
        "exact-fact accuracy on held-out wordings, before and after",
        "05",
    ),
    "consistency": Claim(
        "Fine-tuning makes behaviour consistent",
        "agreement of the answers to five wordings of one question, before and after",
        "06",
    ),
    "tone": Claim(
        "Prompting sets a style, fine-tuning fixes it",
        "share of answers in the wanted style, prompted and tuned",
        "07",
    ),
    "prompt-rag-finetune": Claim(
        "Prompting, retrieval and fine-tuning differ and combine",
        "accuracy, prompt tokens and milliseconds a question for each way",
        "07",
    ),
    "extraction-expansion": Claim(
        "Reading tasks are easier than writing tasks",
        "word overlap (F1) with a good answer and output tokens for both kinds, before tuning",
        "02",
    ),
    "generalises": Claim(
        "Instruction tuning carries over to kinds of tasks not in the data",
        "share of proper, finished answers on task kinds held out of training",
        "03",
    ),
    "synthetic-data": Claim(
        "A model can write the training data (the Alpaca method)",
        "pairs that pass the filters; what a model trained on them gains",
        "03",
    ),
    "data-quality": Claim(
        "Better, more varied and more data help",
        "accuracy for 25, 50 and 100 % of the data, and for a noisy copy",
        "06",
    ),
    "small-steps": Claim(
        "A few steps change nothing, more do",
        "the answer and the held-out loss after 0, 3 and all steps",
        "05",
    ),
    "lora": Claim(
        "A small adapter does almost the work of full fine-tuning",
        "accuracy, trained parameters, peak memory and seconds for both",
        "05",
    ),
    "iteration": Claim(
        "Evaluate, mend the data, train again",
        "accuracy of round 1 and round 2",
        "06",
    ),
    "forgetting": Claim(
        "Tuning on one thing can cost another",
        "held-out perplexity on general text, before and after",
        "06",
    ),
    "private": Claim(
        "Nothing leaves the machine",
        "network connections opened while the lessons run",
        "07",
    ),
}


@dataclass(frozen=True)
class Share:
    """So many of so many, with what that says about the rate behind it.

    Attributes:
        count: How often it happened.
        of: Out of how many.
    """

    count: int
    of: int

    def __post_init__(self) -> None:
        try:
            counted, total = operator.index(self.count), operator.index(self.of)
        except TypeError:
            counted, total = -1, 0
        if not 0 <= counted <= total or total < 1:
            raise ClaimError(f"{self.count} of {self.of} is no share.")
        object.__setattr__(self, "count", counted)  # numpy's numbers become Python's
        object.__setattr__(self, "of", total)

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval for the rate behind the share, from 0 to 1.

        Wilson's score interval (Wilson, 1927): unlike the textbook's normal one it stays
        right for few prompts and for shares near 0 and 1.
        """
        z, n, p = 1.96, self.of, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = (round(100 * bound) for bound in self.interval)
        return f"{100 * self.value:.0f} % ({self.count} of {self.of}; 95 %: {low}–{high} %)"


Number = int | float | Share
HOLDS = {True: "yes", False: "no", None: "too close to tell"}


def more_often(first: Share, second: Share) -> bool | None:
    """Whether the rate behind `first` is larger than that behind `second`.

    Returns:
        True or False where the 95 % interval of the difference of the rates leaves out zero,
        None where so few prompts can't tell. The interval is Newcombe's, made from the two
        Wilson intervals (Newcombe, 1998, method 10).
    """
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    difference = first.value - second.value
    below = math.hypot(first.value - low_1, high_2 - second.value)
    above = math.hypot(high_1 - first.value, second.value - low_2)
    if difference - below > 0:
        return True
    return False if difference + above < 0 else None


def larger(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether the mean behind the numbers in `first` is larger than that behind `second`.

    Returns:
        True or False where the 95 % interval of the difference of the means leaves out zero,
        None where it does not. The interval is the percentile bootstrap's (Efron and Tibshirani,
        1993) with 2,000 draws, the same at every run.

    Raises:
        ClaimError: one of them is empty.
    """
    if not len(first) or not len(second):
        raise ClaimError("There are no numbers to compare.")
    dice = random.Random(0)

    def mean(values: Sequence[float]) -> float:
        return sum(dice.choices(values, k=len(values))) / len(values)

    drawn = sorted(mean(first) - mean(second) for _ in range(2000))
    low, high = drawn[50], drawn[-51]
    return True if low > 0 else False if high < 0 else None


def share(outcomes: Any) -> Share:
    """The share of true values in an iterable of true and false.

    Raises:
        ClaimError: there are none.
    """
    outcomes = [bool(outcome) for outcome in outcomes]
    return Share(sum(outcomes), len(outcomes))


def ledger_path(tier: str | None = None) -> Path:
    """The ledger file of a tier (this run's if not given), one for each pair of models."""
    size = tiers.TIERS[tier] if tier else tiers.current()
    pair = tiers.pair_name(size)
    return work_dir() / f"ledger-{size.name}{'' if pair == size.models else f'-{pair}'}.json"


def record(
    claim_id: str,
    numbers: Mapping[str, Number],
    *,
    holds: bool | None,
    because: str = "",
    models: Mapping[str, str] | None = None,
    seed: int = 0,
) -> None:
    """Write a claim's numbers into the ledger; a later run of the same lesson replaces them.

    Args:
        claim_id: A key of `CLAIMS`.
        numbers: What was measured, by name. A `Share` keeps its counts.
        holds: Whether the claim came out true here; None where the numbers can't tell. An
            honest no is a result.
        because: A sentence on why, for a claim that came out false or half.
        models: Which model played which role; the tier's pair if not given.
        seed: Of every random draw behind the numbers.

    Raises:
        ClaimError: unknown claim, no numbers, or a number that is not finite.
        NoSpace: the disk is full; the old ledger stays.
    """
    if claim_id not in CLAIMS:
        raise ClaimError(f"There is no claim {claim_id!r}. There are: {', '.join(CLAIMS)}.")
    if not numbers:
        raise ClaimError(f"Claim {claim_id!r} needs at least one number.")
    tier = tiers.current()
    pair = tiers.pair(tier)
    entry = {
        "numbers": {name: _as_json(claim_id, name, value) for name, value in numbers.items()},
        "holds": None if holds is None else bool(holds),
        "because": because,
        "lesson": CLAIMS[claim_id].lesson,
        "tier": tier.name,
        "models": dict(models or {"base": pair.base, "chat": pair.chat}),
        "seed": int(seed),
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = ledger_path(tier.name)
    with lock(path.with_suffix(".lock")):
        write_json(path, _kept(path) | {claim_id: entry})


def _as_json(claim_id: str, name: Any, value: Any) -> Any:
    """A number as the ledger keeps it."""
    if not isinstance(name, str):
        raise ClaimError(f"Claim {claim_id!r}: a number's name must be text, not {name!r}.")
    if isinstance(value, Share):
        return {"count": value.count, "of": value.of}
    try:
        if isinstance(value, str | bool):
            raise TypeError
        number = value if isinstance(value, int) else float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ClaimError(
            f"Claim {claim_id!r}: {name!r} must be a finite number, not {value!r:.60}."
        ) from None
    return number


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    found = {"llmcourse": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _kept(path: Path) -> dict[str, Any]:
    """Everything in a ledger file; a damaged one is put aside, so that no work is lost."""
    try:
        return _raw(path)
    except ClaimError:
        aside = path.with_suffix(".damaged.json")
        path.replace(aside)
        print(f"{path.name} was damaged. It is kept as {aside.name}, and a new one begun.")
        return {}


def _raw(path: Path) -> dict[str, Any]:
    """A ledger file as it is, empty where there is none."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        entries = error
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise ClaimError(f"{path} is not a ledger. Move it away; the lessons write a new one.")
    return entries


def _is_entry(entry: Any) -> bool:
    """True where `entry` has what the tables show."""
    try:
        numbers = entry["numbers"]
        for value in numbers.values():
            shown(value)
        return bool(numbers) and entry["holds"] in HOLDS and isinstance(entry["because"], str)
    except (TypeError, KeyError, AttributeError, ValueError, ClaimError):
        return False


def read(tier: str | None = None, path: Path | None = None) -> dict[str, dict[str, Any]]:
    """The ledger of a tier, claim id to entry, in the order of `CLAIMS`; empty if there is none.

    Claims of another version of the course stay in the file and are not shown.

    Raises:
        ClaimError: the file is not a ledger.
    """
    entries = _raw(path or ledger_path(tier))
    return {claim_id: entries[claim_id] for claim_id in CLAIMS if claim_id in entries}


def shown(value: Any) -> str:
    """A number of the ledger for people: shares with their counts, others at three digits."""
    if isinstance(value, dict):
        return str(Share(value["count"], value["of"]))
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def rows(
    *, lesson: str | None = None, tier: str | None = None, path: Path | None = None
) -> list[dict[str, str]]:
    """The ledger as one row a number, for tables."""
    result = []
    for claim_id, entry in read(tier, path).items():
        if lesson and CLAIMS[claim_id].lesson != lesson:
            continue
        for number, (name, value) in enumerate(entry["numbers"].items()):
            result.append(
                {
                    "claim": claim_id if number == 0 else "",
                    "measured": name,
                    "value": shown(value),
                    "holds": HOLDS[entry["holds"]] if number == 0 else "",
                }
            )
    return result


def notes(*, lesson: str | None = None, path: Path | None = None) -> list[str]:
    """What each claim's lesson says about how its numbers came about."""
    entries = read(path=path).items()
    return [
        f"{claim_id}: {entry['because']}" for claim_id, entry in entries
        if entry["because"] and lesson in (None, CLAIMS[claim_id].lesson)
    ]  # fmt: skip


def table(lesson: str | None = None, tier: str | None = None) -> pandas.DataFrame:
    """The ledger, or one lesson's rows, as a table for a notebook."""
    import pandas

    columns = ["claim", "measured", "value", "holds"]
    return pandas.DataFrame(rows(lesson=lesson, tier=tier), columns=columns)


def as_text(tier: str | None = None, path: Path | None = None) -> str:
    """The ledger for a terminal."""
    entries = read(tier, path)
    tier = tier or tiers.current().name
    if not entries:
        return (
            f"Nothing measured yet on the {tier} tier. Run the lessons (`python -m llmcourse run "
            f"--tier {tier}`), then look again."
        )
    lines = [f"Measured on this machine, {tier} tier: {len(entries)} of {len(CLAIMS)} claims"]
    used = dict.fromkeys(" and ".join(e.get("models", {}).values()) for e in entries.values())
    lines += [f"Models: {'; '.join(filter(None, used)) or 'not noted'}", ""]
    for claim_id, entry in entries.items():
        lines.append(f"{claim_id}: {CLAIMS[claim_id].text}")
        lines.append(f"    holds here: {HOLDS[entry['holds']]}")
        width = max(map(len, entry["numbers"]))
        lines += [
            f"    {name:<{width}}  {shown(value)}" for name, value in entry["numbers"].items()
        ]
        if entry["because"]:
            lines.append(f"    {entry['because']}")
    return "\n".join(lines)


def as_markdown(tier: str, path: Path) -> str:
    """The ledger in `path` as a Markdown table, for the README."""
    lines = ["| claim | measured | value | holds |", "|---|---|---|---|"]
    for row in rows(tier=tier, path=path):
        said = f"**{CLAIMS[row['claim']].text}**" if row["claim"] else ""
        lines.append(f"| {said} | {row['measured']} | {row['value']} | {row['holds']} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(path=path))])
