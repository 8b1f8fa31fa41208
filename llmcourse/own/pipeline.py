"""The whole way, from a learner's data to a report, each step leaving its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import __version__, data, files, tiers
from llmcourse.errors import SettingError, first_line
from llmcourse.own import learning
from llmcourse.own.assessing import TUNED, Assessment, assess
from llmcourse.own.parts import LEAST, Parts, developed, split, trimmed
from llmcourse.own.reporting import report
from llmcourse.own.results import Result, peak_memory
from llmcourse.own.reviewing import load_reviewed, save_for_review
from llmcourse.own.sizes import Sizes, settings, sizes
from llmcourse.own.sources import Source, pairs_of, read
from llmcourse.own.writing import Written, pairs

if TYPE_CHECKING:
    from llmcourse.finetuning import TunedModel
    from llmcourse.models import LoadedModel

STATE, PAIRS, REJECTED, SPLIT, MODEL, ANSWERS, REPORT = (
    "own.json", "pairs.csv", "rejected.jsonl", "split", "model", "answers.json", "report.html",
)  # fmt: skip
_LOCK = ".lock"


def run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tier: str | None = None,
    base: str | None = None,
    test: str | os.PathLike[str] | None = None,
    hold_out: str | None = None,
    epochs: float | None = None,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Result:
    """Go the whole way: pairs, split, training, evaluation, model folder, report.

    In `out` each step leaves its file: pairs.csv, rejected.jsonl, split/train.jsonl and test.jsonl,
    model/, answers.json, report.html. A second run goes on from what is there: pairs that were
    reviewed are used as they are now, a stopped training goes on, and answers are not asked again
    where nothing changed.

    Args:
        source: A folder of documents or a file of pairs; see `read`.
        out: A folder, new, empty, or of an earlier run on the same data.
        tier: Whose sizes are used; the one in force if not given.
        base: The model to tune; the tier's if not given (`tiers.pair().learner`).
        test: A file of test pairs; 20 % of the pairs if not given. A field `keys` has what a right
            answer must contain.
        hold_out: See `split`.
        epochs: How often every pair is seen; chosen from their number if not given.
        progress: False shows no progress.
        say: Is told what goes on, a line at a time.

    Raises:
        SettingError: `out` holds something else, or other data; or see `models.load`.
        DataError: the data can't be used; the message says what is wrong, where, and the way out.
        TrainingStopped: by Ctrl-C; the same call goes on.
        NoSpace: the disk is full.
    """
    found, size = read(source), sizes(tier)
    asked = None if test is None else pairs_of(Path(test).expanduser())
    say(str(found))
    with _opened(found, out) as state:
        writes = found.kind == "documents" and not (state.folder / PAIRS).exists()
        loaded = _models(base, state) if writes else None
        records, writing = _pairs(found, loaded and loaded[0], size, state, progress, say)
        parts = _split(records, asked, hold_out, size, state)
        say(str(parts))
        chat, learner = loaded or _models(base, state)
        tuned = _train(learner, parts, size, epochs, state, progress, say)
        with state.timed("evaluation"):
            assessment = _assess(chat, tuned, parts, found, size, state, progress)
        results = {
            f"{name}, test pairs": f"{score['mean']:.3g} ({score['low']:.3g} to "
            f"{score['high']:.3g}; {score['total']} pairs)"
            for name, score in assessment.scores[TUNED].items()
        }
        learning.add_results(tuned, results)
        result = _result(found, records, writing, parts, tuned, assessment, size, state, tier)
        say(f"Report: {files.shown(report(result, state.folder / REPORT))}")
        say(f"Model: {files.shown(state.folder / MODEL)}")
    return result


def write_pairs(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tier: str | None = None,
    base: str | None = None,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Path:
    """The first half of `run`: write pairs.csv, to be read and mended before anything is trained.

    Args:
        source, out, tier, base, progress, say: See `run`.

    Returns:
        pairs.csv; one that is there already stays as it is.

    Raises:
        SettingError, DataError, NoSpace: see `run`.
    """
    found, size = read(source), sizes(tier)
    say(str(found))
    with _opened(found, out) as state:
        there = (state.folder / PAIRS).exists()
        chat = None if there or found.kind == "pairs" else _models(base, state)[0]
        records, _ = _pairs(found, chat, size, state, progress, say)
        if len(records) < LEAST:
            say(
                f"That is too few: at least {LEAST} are needed to train and test. Add documents "
                f"and name a new folder, or add lines to {PAIRS} yourself while you read it."
            )
        return state.folder / PAIRS


# --- the folder -----------------------------------------------------------------------------------


class State:
    """The folder of a run, and what it remembers from one call to the next (own.json)."""

    def __init__(self, folder: Path, known: dict[str, Any]) -> None:
        self.folder, self.known = folder, known

    def keep(self, **values: Any) -> None:
        """Remember values on the disk."""
        self.known |= values
        files.write_json(self.folder / STATE, self.known)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Remember how long a step took, and the most memory until then.

        The longest time counts: where a step finds its work done, it only loads that.
        """
        start = time.perf_counter()
        yield
        seconds = dict(self.known.get("seconds", {}))
        seconds[step] = max(time.perf_counter() - start, seconds.get(step, 0.0))
        self.keep(seconds=seconds, memory=max(peak_memory(), self.known.get("memory", 0.0)))


@contextmanager
def _opened(source: Source, out: str | os.PathLike[str]) -> Iterator[State]:
    """Hold the folder for one run at a time.

    Raises:
        SettingError: it is a file, lies in the documents, or holds something else or other data.
    """
    if not isinstance(out, str | os.PathLike) or not str(out).strip():
        raise SettingError(f"out={out!r:.80} must be the path of a folder.")
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{files.shown(folder)} is a file. Name a folder, new or empty.")
    data_folder = Path(source.name).expanduser().resolve()
    if source.kind == "documents" and folder.resolve().is_relative_to(data_folder):
        raise SettingError(
            f"{files.shown(folder)} lies in the folder of the documents, and what is written there "
            f"would be read as one of them. Name a folder elsewhere."
        )
    known = _known(folder)
    if known is None and folder.is_dir() and any(p.name != _LOCK for p in folder.iterdir()):
        raise SettingError(
            f"{files.shown(folder)} holds something else already, and nothing of it is "
            f"overwritten. Name another folder, new or empty."
        )
    with ExitStack() as held:
        try:
            waiting = f"Another run works in {files.shown(folder)}; waiting for it."
            held.enter_context(files.lock(folder / _LOCK, waiting))
        except OSError as error:
            raise SettingError(
                f"{files.shown(folder)} can't be written to: {first_line(error)}."
            ) from error
        yield _checked(source, folder, _known(folder))


def _known(folder: Path) -> dict[str, Any] | None:
    """What an earlier run remembers; None where there was none.

    Raises:
        SettingError: it can't be read.
    """
    try:
        known = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingError(
            f"{files.shown(folder / STATE)} can't be read ({first_line(error)}). Name another "
            f"folder."
        ) from error
    return known if isinstance(known, dict) else None


def _checked(source: Source, folder: Path, known: dict[str, Any] | None) -> State:
    """The state to go on from.

    Raises:
        SettingError: pairs.csv there was made from other data.
    """
    state = State(folder, known or {"format": 1, "source": source.name, "digest": source.digest})
    if state.known.get("digest") != source.digest:
        if (folder / PAIRS).exists():
            was = state.known.get("source")
            what = "these data were changed since" if was == source.name else f"it is about {was}"
            raise SettingError(
                f"{files.shown(folder / PAIRS)} was made from other data: {what}. Name another "
                f"folder; or, to have the pairs made anew, move pairs.csv away."
            )
        state.known |= {"source": source.name, "digest": source.digest}
    state.keep()
    return state


# --- the steps ------------------------------------------------------------------------------------


def _models(base: str | None, state: State) -> tuple[LoadedModel, LoadedModel]:
    """The chat model that writes and is prompted, and the model to tune: the same, if it chats."""
    from llmcourse import models

    with state.timed("loading"):
        learner = models.load(base or tiers.pair().learner)
        chat = learner if getattr(learner.tokenizer, "chat_template", None) else models.load("chat")
    return chat, learner


def _pairs(
    source: Source, chat: LoadedModel | None, size: Sizes, state: State, progress: bool,
    say: Callable[[str], object],
) -> tuple[list[dict[str, str]], dict[str, Any]]:  # fmt: skip
    """The pairs as they are now, and how they came about."""
    path = state.folder / PAIRS
    if not path.exists():
        with state.timed("pairs"):
            written = pairs(source, chat, size, progress=progress)
            if written.rejected:
                data.save_records(written.rejected, state.folder / REJECTED)
            save_for_review(written.records, path)
        state.keep(writing=_described(written, path))
        say(f"{len(written.records)} pairs written to {files.shown(path)}, "
            f"{len(written.rejected)} rejected.")  # fmt: skip
    records = load_reviewed(path)
    writing = state.known.get("writing") or {"counts": {}, "rejected": [], "digest": None}
    reviewed = writing["digest"] not in (None, _digest_of(path))
    if reviewed:
        say(f"{files.shown(path)} was reviewed: {len(records)} pairs are kept.")
    return records, writing | {"kept": len(records), "reviewed": reviewed}


def _described(written: Written, path: Path) -> dict[str, Any]:
    return {"counts": written.counts, "rejected": written.reasons(), "digest": _digest_of(path)}


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _split(
    records: list[dict[str, str]], test: Source | None, hold_out: str | None, size: Sizes,
    state: State,
) -> Parts:  # fmt: skip
    """The two parts, as many pairs of each as the tier allows; written to split/."""
    parts = split(records, test=None if test is None else test.records, hold_out=hold_out)
    notes = list(parts.notes)
    asked = trimmed(parts.test, size.questions)
    train = trimmed(parts.train, size.pairs, like=asked)
    for name, kept, given in (("train on", train, parts.train), ("test with", asked, parts.test)):
        if len(kept) < len(given):
            notes.append(
                f"Of {len(given)} pairs to {name}, {len(kept)} were used, so that it takes "
                f"minutes; a larger tier uses more."
            )
    if test is not None:
        notes += [f"left out of the test: {problem}" for problem in test.problems]
    data.save_records(train, state.folder / SPLIT / "train.jsonl")
    data.save_records(asked, state.folder / SPLIT / "test.jsonl")
    return Parts(train, asked, parts.held_out, notes)


def _train(
    model: LoadedModel, parts: Parts, size: Sizes, epochs: float | None, state: State,
    progress: bool, say: Callable[[str], object],
) -> TunedModel:  # fmt: skip
    """The tuned model: loaded where it is there, gone on with where it was stopped.

    Every eighth pair is kept out of training, for the loss that is looked at on the way and that
    the advice goes by; the test pairs are only asked at the end.
    """
    learned, development = developed(parts.train)
    config = settings(learned, model, size)
    sign = _digest([model.name, learning.plain(parts.train), vars(config), epochs])
    before = state.known.get("training")
    if before is not None and before != sign and (state.folder / MODEL).exists():
        say("The pairs or the settings changed since model/ was trained: it is trained anew.")
        # (gone before the new sign is kept, so that a stop in between is made good by the next run)
        shutil.rmtree(state.folder / MODEL)
    if before != sign:
        for step in ("training", "evaluation"):
            state.known.get("seconds", {}).pop(step, None)
    state.keep(training=sign)
    with state.timed("training"):
        return learning.train(
            model, learned, config, held_out=development, epochs=epochs,
            out=state.folder / MODEL, progress=progress,
        )  # fmt: skip


def _assess(
    chat: LoadedModel, tuned: TunedModel, parts: Parts, source: Source, size: Sizes, state: State,
    progress: bool,
) -> Assessment:  # fmt: skip
    """The comparison; what was asked already is read from answers.json."""
    path = state.folder / ANSWERS
    sign = _digest(
        [__version__, state.known["training"], parts.test, source.digest, vars(size), chat.name]
    )
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["sign"] == sign:
            return Assessment(**known["assessment"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another version: asked again
    found = assess(chat, tuned, parts.test, source.passages, size, progress=progress)
    files.write_json(path, {"sign": sign, "assessment": found.as_dict()})
    return found


def _result(
    source: Source, records: list[dict[str, str]], writing: Mapping[str, Any], parts: Parts,
    tuned: TunedModel, assessment: Assessment, size: Sizes, state: State, tier: str | None,
) -> Result:  # fmt: skip
    from llmcourse.finetuning import saving

    with state.timed("inspection"):
        findings = {"pairs": _inspected(records, tuned)}
        if source.kind == "documents":
            findings = {"documents": source.inspected(tuned.tokenizer).as_dict()} | findings
    return Result(
        source={"kind": source.kind, "name": source.name, "problems": source.problems,
                "text": str(dataclasses.replace(source, name=files.shown(Path(source.name))))},
        findings=findings, writing=dict(writing),
        parts={"train": len(parts.train), "test": len(parts.test), "held_out": parts.held_out,
               "notes": parts.notes},
        training=learning.described(tuned), assessment=assessment,
        seconds=state.known["seconds"], memory=state.known["memory"], versions=saving.versions(),
        tier=tier or tiers.current().name, out=state.folder,
    )  # fmt: skip


def _inspected(records: list[dict[str, str]], model: LoadedModel) -> dict[str, Any]:
    """What `data.inspect` finds in the pairs."""
    rows = [{name: row.get(name, "") for name in ("question", "input", "answer")}
            for row in records]  # fmt: skip
    return data.inspect(rows, tokenizer=model.tokenizer, name=PAIRS).as_dict()
