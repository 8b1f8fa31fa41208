"""The complete path from a learner's data to a report; each step leaves its file."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import __version__, data, files, tiers
from llmcourse.data.reviewing import load_reviewed, save_for_review
from llmcourse.errors import SettingError, first_line
from llmcourse.own import training
from llmcourse.own.assessing import TUNED, Assessment, assess
from llmcourse.own.parts import LEAST, Parts, developed, split, trimmed
from llmcourse.own.report import Result, report
from llmcourse.own.source import Source, digest, pairs, pairs_of, read
from llmcourse.own.training import settings, sizes

if TYPE_CHECKING:
    from llmcourse.finetuning import TunedModel
    from llmcourse.models import LoadedModel

STATE, PAIRS, MODEL, LOCK = "own.json", "pairs.csv", "model", ".lock"


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
    """Go all the way: pairs, split, training, evaluation, model folder, report.

    In `out` each step leaves its file: pairs.csv, rejected.jsonl, split/train.jsonl and test.jsonl,
    model/, answers.json, report.html. A second run goes on from what is there: pairs that were
    reviewed are used as they are now, a stopped training goes on, and questions are not asked
    again where nothing changed.

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
        say: Called with each progress message.

    Raises:
        SettingError: `out` holds something else, or other data; or see `models.load`.
        DataError: the data can't be used; the message says what is wrong, where, and the way out.
        TrainingStopped: by Ctrl-C; the same call goes on.
        NoSpace: the disk is full.
    """
    from llmcourse.finetuning.tuned import card, facts
    from llmcourse.models import FACTS

    tests = None if test is None else pairs_of(Path(test).expanduser())
    with _opened(source, out, tier, base, progress, say) as run:
        records, writing = run.pairs()
        parts = run.split(records, tests, hold_out)
        tuned = run.train(parts, epochs)
        with run.timed("evaluation"):
            assessment = run.assess(parts, tuned)
        results = {
            f"{name}, test pairs": f"{score['mean']:.3g} ({score['low']:.3g} to "
            f"{score['high']:.3g}; {score['total']} pairs)"
            for name, score in assessment.scores[TUNED].items()
        }
        files.write_text(run.folder / MODEL / "README.md", card(tuned, results))
        files.write_json(run.folder / MODEL / FACTS, facts(tuned, results))
        with run.timed("inspection"):
            findings = {"pairs": data.inspect(training.plain(records), tokenizer=tuned, name=PAIRS)}
            if run.source.kind == "documents":
                findings = {"documents": run.source.inspected(tuned.tokenizer)} | findings
        known = {"seconds": run.known["seconds"], "memory": run.known["memory"]}
        known |= {"tier": tier or tiers.current().name, "out": run.folder}
        result = Result(run.source, findings, writing, parts, tuned, assessment, **known)
        say(f"Report: {files.shown(report(result, run.folder / 'report.html'))}")
        say(f"Model: {files.shown(run.folder / MODEL)}")
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
    """The first half of `run`: write pairs.csv, to be read and corrected before the training.

    Args:
        source, out, tier, base, progress, say: See `run`.

    Returns:
        pairs.csv; one that is there already stays as it is.

    Raises:
        SettingError, DataError, NoSpace: see `run`.
    """
    with _opened(source, out, tier, base, progress, say) as run:
        records, _ = run.pairs()
        if len(records) < LEAST:
            say(
                f"That is too few: at least {LEAST} are needed to train and test. Add documents "
                f"and name a new folder, or add lines to {PAIRS} yourself while you read it."
            )
        return run.folder / PAIRS


@contextmanager
def _opened(source: Any, out: Any, tier: str | None, *settings: Any) -> Iterator[_Run]:
    """Hold the folder for one run at a time.

    Raises:
        SettingError: it is a file, lies in the documents, or holds something else or other data.
    """
    found, size = read(source), sizes(tier)
    folder = Path(out).expanduser()
    name = files.shown(folder)
    below = folder.resolve().is_relative_to(Path(found.name).expanduser().resolve())
    if found.kind == "documents" and below:
        raise SettingError(
            f"{name} is in the folder of the documents, and what is written there would be read "
            f"as one of them. Name a folder elsewhere."
        )
    others = folder.is_dir() and {path.name for path in folder.iterdir()} - {LOCK}
    if folder.is_file() or (others and STATE not in others):
        raise SettingError(
            f"{name} is a file or holds something else already, and nothing of it is overwritten. "
            f"Name another folder, new or empty."
        )
    with files.lock(folder / LOCK, f"Another run works in {name}; waiting for it."):
        known = {"format": 1, "source": found.name, "digest": found.digest}
        if STATE in (others or ()):
            try:
                known = json.loads((folder / STATE).read_text(encoding="utf-8"))
            except ValueError as error:
                raise SettingError(
                    f"{name}/{STATE} can't be read ({first_line(error)}). Name another folder."
                ) from error
        if known["digest"] != found.digest and (folder / PAIRS).exists():
            changed = known["source"] == found.name
            why = "these data were changed since" if changed else f"it is about {known['source']}"
            raise SettingError(
                f"{files.shown(folder / PAIRS)} was made from other data: {why}. Name another "
                f"folder; or, to have the pairs written again, move pairs.csv away."
            )
        run = _Run(found, folder, known, size, *settings)
        run.keep(source=found.name, digest=found.digest)
        run.say(str(found))
        yield run


@dataclasses.dataclass
class _Run:
    """The steps of a run; `known` is what own.json keeps from one call to the next."""

    source: Source
    folder: Path
    known: dict[str, Any]
    size: training.Sizes
    base: str | None
    progress: bool
    say: Callable[[str], object]

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

    @cached_property
    def models(self) -> tuple[LoadedModel, LoadedModel]:
        """The chat model that writes and is prompted, and the model to tune: the same, if it can.

        Loaded only when needed: reading pairs takes no model.
        """
        from llmcourse import models

        with self.timed("loading"):
            learner = models.load(self.base or tiers.pair().learner)
            chats = getattr(learner.tokenizer, "chat_template", None)
            return learner if chats else models.load("chat"), learner

    def pairs(self) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """The pairs as they are now, and how they came about."""
        path = self.folder / PAIRS
        if not path.exists():
            writer = self.models[0] if self.source.kind == "documents" else None
            with self.timed("pairs"):
                written = pairs(self.source, writer, self.size, progress=self.progress)
                if written.rejected:
                    data.save_records(written.rejected, self.folder / "rejected.jsonl")
                save_for_review(written.records, path)
            writing = {"counts": written.counts, "rejected": written.reasons()}
            self.keep(writing=writing | {"digest": digest(path.read_bytes())})
            self.say(
                f"{len(written.records)} pairs written to {files.shown(path)}, "
                f"{len(written.rejected)} rejected."
            )
        records = load_reviewed(path)
        writing = self.known.get("writing") or {"counts": {}, "rejected": [], "digest": None}
        reviewed = writing["digest"] not in (None, digest(path.read_bytes()))
        if reviewed:
            self.say(f"{files.shown(path)} was reviewed: {len(records)} pairs are kept.")
        return records, writing | {"kept": len(records), "reviewed": reviewed}

    def split(
        self, records: list[dict[str, str]], tests: Source | None, hold_out: str | None
    ) -> Parts:
        """The two parts, as many pairs of each as the tier allows; written to split/."""
        full = split(records, test=tests and tests.records, hold_out=hold_out)
        test = trimmed(full.test, self.size.questions)
        train = trimmed(full.train, self.size.pairs, like=test)
        notes = list(full.notes)
        for name, kept, given in (("train on", train, full.train), ("test with", test, full.test)):
            if len(kept) < len(given):
                notes.append(
                    f"Of {len(given)} pairs to {name}, {len(kept)} were used, so that it takes "
                    f"minutes; a larger tier uses more."
                )
            file = self.folder / "split" / f"{name.split()[0]}.jsonl"
            data.save_records(kept, file)
        notes += [
            f"left out of the test: {problem}" for problem in (tests.problems if tests else ())
        ]
        parts = Parts(train, test, full.held_out, notes)
        self.say(str(parts))
        return parts

    def train(self, parts: Parts, epochs: float | None) -> TunedModel:
        """The tuned model: loaded where it is there, resumed where it was stopped.

        Every eighth pair is kept out of training, for the loss that is looked at on the way and
        that the advice goes by; the test questions are only asked at the end.
        """
        learner, folder = self.models[1], self.folder / MODEL
        learned, development = developed(parts.train)
        config = settings(learned, learner, self.size)
        fingerprint = digest([learner.name, training.plain(parts.train), vars(config), epochs])
        if self.known.get("training", fingerprint) != fingerprint:
            for step in ("training", "evaluation"):
                self.known.get("seconds", {}).pop(step, None)
            if folder.exists():
                self.say("The pairs or the settings changed: model/ is trained again.")
                # Gone before the new sign is kept, so that the next run repairs a stop in between.
                shutil.rmtree(folder)
        self.keep(training=fingerprint)
        with self.timed("training"):
            how = {"epochs": epochs, "out": folder, "progress": self.progress}
            return training.train(learner, learned, config, held_out=development, **how)

    def assess(self, parts: Parts, tuned: TunedModel) -> Assessment:
        """The comparison; answers of an earlier run are read from answers.json."""
        path, (chat, _) = self.folder / "answers.json", self.models
        source, size = self.source, self.size
        fingerprint = digest(
            [__version__, self.known["training"], parts.test, source.digest, vars(size), chat.name]
        )
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["sign"] == fingerprint:
                return Assessment(**known["assessment"])
        found = assess(chat, tuned, parts.test, source.passages, size, progress=self.progress)
        files.write_json(path, {"sign": fingerprint, "assessment": dataclasses.asdict(found)})
        return found


def peak_memory() -> float:
    """The most memory that this process had until now, in bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)
