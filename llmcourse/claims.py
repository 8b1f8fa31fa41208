"""The ledger: each claim the course makes, with the number this machine measured for it.

One JSON file per tier, in the work folder. A lesson calls `record`; `python -m llmcourse results`
prints the ledger, and each lesson ends with its own rows.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from llmcourse import __version__, tiers
from llmcourse.errors import ClaimError, DataError
from llmcourse.files import Store, work_dir
from llmcourse.progress import in_notebook
from llmcourse.stats import Share, percent


@dataclass(frozen=True)
class Claim:
    """One thing the course says.

    Attributes:
        text: The claim, in our words.
        measured: What is measured for it.
        lesson: Number of the lesson that records it.
        shown: The one or two of its numbers that a line about it shows.
        published: The same of the published run, where its arms have names of their own.
        unit: Of the numbers of the published run: "share" or "number".
    """

    text: str
    measured: str
    lesson: str
    shown: tuple[str, ...]
    published: tuple[str, ...]
    unit: str = "share"


CLAIMS = {
    name: Claim(**fields)
    for name, fields in json.loads(
        Path(__file__).with_name("claims.json").read_text(encoding="utf-8")
    ).items()
}
# Of each lesson its number, its name, and what it is about.
LESSONS = (
    ("00", "Start here", "this machine"),
    ("01", "Why fine-tune", "base against chat"),
    ("02", "Where it fits", "after pretraining"),
    ("03", "Instruction tuning", "a new behaviour"),
    ("04", "Data preparation", "text to tokens"),
    ("05", "Training", "steps and adapters"),
    ("06", "Evaluation", "is it better?"),
    ("07", "Prompt, retrieve, tune", "the comparison"),
    ("08", "Your own data", "the whole path"),
)
HOLDS = {True: "yes", False: "no", None: "too close to tell"}
# Why a row is no run of this learner's own: by `catch-up` came the row, or an adapter behind it.
BORROWED = {"row": "in the published run", "adapter": "here, with the published run's adapter"}
borrowed = ""  # set once this process has loaded such an adapter


def ledger_path() -> Path:
    """The ledger file of this run's tier, one for each pair of models."""
    # Numbers of other models answer another question, so they never mix.
    tier, pair = tiers.current(), tiers.pair_name()
    return work_dir() / f"ledger-{tier.name}{'' if pair == tier.models else f'-{pair}'}.json"


def record(
    claim_id: str,
    numbers: Mapping[str, int | float | Share],
    *,
    holds: bool | None,
    because: str = "",
    models: Mapping[str, str] | None = None,
) -> None:
    """Write a claim's numbers into the ledger; the next run of the same lesson replaces them.

    Args:
        claim_id: A key of `CLAIMS`.
        numbers: What was measured, by name. A `Share` keeps its counts.
        holds: Whether the claim came out true here; None where the numbers can't tell. An
            honest no is a result.
        because: A sentence on why, for a claim that came out false or in part.
        models: Which model played which role; the tier's pair if not given.

    Raises:
        ClaimError: unknown claim, no numbers, a number that is not finite, or a ledger that can't
            be read or written; the old ledger stays.
        NoSpace: the disk is full; the old ledger stays.
    """
    if claim_id not in CLAIMS:
        raise ClaimError(f"There is no claim {claim_id!r}. There are: {', '.join(CLAIMS)}.")
    if not numbers:
        raise ClaimError(f"Claim {claim_id!r} needs at least one number.")
    pair = tiers.pair()
    entry: dict[str, Any] = {
        "numbers": {name: _as_json(claim_id, name, value) for name, value in numbers.items()},
        "holds": None if holds is None else bool(holds),  # numpy's bool is not JSON's
        "because": because,
        "lesson": CLAIMS[claim_id].lesson,
        "tier": tiers.current().name,
        "models": {"base": pair.base, "chat": pair.chat} if models is None else dict(models),
        "seed": tiers.seed(),
        "versions": {"llmcourse": __version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in ("torch", "transformers")},
        "machine": f"{platform.system()} {platform.machine()}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    } | ({"published": borrowed} if borrowed else {})
    _store(ledger_path()).update(lambda entries: entries.update({claim_id: entry}))
    if in_notebook():
        print(
            f"Noted in your ledger: {CLAIMS[claim_id].text} ({claim_id}). "
            f"Holds here: {HOLDS[entry['holds']]}."
        )


def _as_json(claim_id: str, name: str, value: Any) -> Any:
    """A number as the ledger keeps it."""
    if isinstance(value, Share):
        return {"count": value.count, "of": value.total}  # the interval follows from the counts
    number = value.item() if hasattr(value, "item") else value  # numpy's and torch's
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ClaimError(
            f"Claim {claim_id!r}: {name!r} must be a finite number, not {value!r:.60}."
        )
    return number


def number(value: Any) -> Share | int | float:
    """A number of the ledger as `record` got it."""
    return Share(value["count"], value["of"]) if isinstance(value, dict) else value


def _store(path: Path) -> Store:
    def sound(entries: dict[str, Any]) -> dict[str, Any]:
        return {name: entry for name, entry in entries.items() if is_entry(entry)}

    return Store(path, "The ledger", sound, ClaimError)


def is_entry(entry: Any) -> bool:
    """True where `entry` has everything that the tables show."""
    try:
        for name, value in entry["numbers"].items():
            _as_json("", name, number(value))
        texts = (entry["because"], *entry.get("models", {}).values())
        known = bool(entry["numbers"]) and entry["holds"] in HOLDS
        return known and all(isinstance(text, str) for text in texts)
    except (TypeError, KeyError, AttributeError, ClaimError, DataError):
        return False


def read(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """A ledger (this run's if not given), claim id to entry, in the order of `CLAIMS`.

    Claims of another version of the course stay in the file and are not shown.

    Raises:
        ClaimError: the file is not a ledger, or can't be opened.
    """
    path = path or ledger_path()
    entries, undamaged = _store(path).read()
    if not undamaged:  # only `record` may repair it, with a copy kept
        raise ClaimError(f"{path} is not a ledger. Move it away; the lessons write a new one.")
    return {claim_id: entries[claim_id] for claim_id in CLAIMS if claim_id in entries}


def published() -> dict[str, dict[str, Any]]:
    """The ledger that comes with the course: the cpu tier's, of the saved notebooks."""
    return read(path=Path(__file__).with_name("ledger-cpu.json"))


def take_published(before: str) -> int:
    """Put the published rows of lessons before `before` into the ledger where there are none.

    Returns:
        How many.
    """
    rows = {c: e | {"published": "row"} for c, e in published().items() if e["lesson"] < before}
    path = work_dir() / "ledger-cpu.json"  # of the tier and the models that they were measured with
    new = {claim_id: entry for claim_id, entry in rows.items() if claim_id not in read(path=path)}
    _store(path).update(lambda entries: entries.update(new | entries))
    return len(new)


def result(claim_id: str) -> dict[str, Any]:
    """A claim's result in the published run, which asks more questions with several seeds.

    Returns:
        "arms" (name -> n, mean, low and high), "tests", "holds", "setting", "seeds", "command" and
        more, see `experiments/README.md`; nothing where the published run has not measured it yet.

    Raises:
        ClaimError: unknown claim.
    """
    if claim_id not in CLAIMS:
        raise ClaimError(f"There is no claim {claim_id!r}. There are: {', '.join(CLAIMS)}.")
    path = Path(__file__).parent / "results" / f"{claim_id}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def shown(value: Any) -> str:
    """A number of the ledger as text: shares with their counts, others with three digits."""
    value = number(value)
    if isinstance(value, Share):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def as_share(value: float) -> str:
    """A number from 0 to 1 in per cent."""
    return f"{percent(value)} %"


def rows(
    *, lesson: str | None = None, path: Path | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """The ledger as one row per number: claim id, measured, value, holds."""
    for claim_id, entry in read(path).items():
        if lesson in (None, CLAIMS[claim_id].lesson):
            claim, holds = claim_id, HOLDS[entry["holds"]]
            for name, value in entry["numbers"].items():
                yield claim, name, shown(value), holds
                claim = holds = ""  # only a claim's first row names it


def notes(*, lesson: str | None = None, path: Path | None = None) -> list[str]:
    """What each claim's lesson says about how its numbers came about."""
    entries = read(path=path).items()
    return [
        f"{claim_id}: {entry['because']}"
        for claim_id, entry in entries
        if entry["because"] and lesson in (None, CLAIMS[claim_id].lesson)
    ]


def as_text() -> str:
    """The ledger for a terminal."""
    entries, tier = read(), tiers.current().name
    if not entries:
        return (
            f"Nothing measured yet on the {tier} tier. Run the lessons (`python -m llmcourse run "
            f"--tier {tier}`), then look again."
        )
    lines = [f"Measured on this machine, {tier} tier: {len(entries)} of {len(CLAIMS)} claims"]
    # Lessons may run with different models; each pair is named once, in order.
    used = dict.fromkeys(" and ".join(e.get("models", {}).values()) for e in entries.values())
    lines += [f"Models: {'; '.join(filter(None, used)) or 'not noted'}", ""]
    for claim_id, entry in entries.items():
        lines.append(f"{claim_id}: {CLAIMS[claim_id].text}")
        where = BORROWED.get(entry.get("published", ""), "here")
        lines.append(f"    holds {where}: {HOLDS[entry['holds']]}")
        width = max(map(len, entry["numbers"]))
        lines += [
            f"    {name:<{width}}  {shown(value)}" for name, value in entry["numbers"].items()
        ]
        if entry["because"]:
            lines.append(f"    {entry['because']}")
    return "\n".join(lines)


def as_markdown(path: Path) -> str:
    """The ledger in `path` as a Markdown table, with all numbers, for the site."""
    lines = ["| claim | measured | value | holds |", "|---|---|---|---|"]
    for claim, name, value, holds in rows(path=path):
        said = f"**{CLAIMS[claim].text}**" if claim else ""
        name = name.replace("|", r"\|")
        lines.append(f"| {said} | {name} | {value} | {holds} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(path=path))])


def summary(path: Path) -> str:
    """A Markdown table with a line per claim, for the README.

    The numbers are the published run's; where it has not measured a claim, those of the ledger in
    `path`, which is said.
    """
    lines = ["| claim | | | measured | holds |", "|---|---|---|---|---|"]
    for claim_id, entry in read(path=path).items():
        claim, found = CLAIMS[claim_id], result(claim_id)
        if found.get("arms"):
            arms = {name: found["arms"][name] for name in claim.published}
            numbers = {name: arm["mean"] for name, arm in arms.items()}
            texts = {
                n: as_share(v) if claim.unit == "share" else f"{v:.3g}" for n, v in numbers.items()
            }
            source = f"{max(arm['n'] for arm in arms.values())} questions"
            source += f", {found['seeds']} seeds" * (found["seeds"] > 1)
        else:
            texts = {name: _short(entry["numbers"][name]) for name in claim.shown}
            source = "in the lesson"
        cells = [f"{name}: **{text}**" for name, text in texts.items()]
        cells += [""] * (2 - len(cells))
        holds = HOLDS[(found or entry)["holds"]]
        lines.append(f"| {claim.lesson}: {claim.text} | {' | '.join(cells)} | {source} | {holds} |")
    return "\n".join(lines)


def _short(value: Any) -> str:
    value = number(value)
    return as_share(value.value) if isinstance(value, Share) else shown(value)
