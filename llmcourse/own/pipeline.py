"""The complete path from a learner's data to a report; each step leaves its file."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import data, files, tiers
from llmcourse.data.reviewing import load_reviewed, save_for_review
from llmcourse.errors import SettingError
from llmcourse.own import training
from llmcourse.own.assessing import TUNED, assess
from llmcourse.own.parts import LEAST, Parts, split, trimmed
from llmcourse.own.report import Result, report
from llmcourse.own.source import Source, digest, pairs, pairs_of, read

if TYPE_CHECKING:
    from llmcourse.finetuning import TunedModel
    from llmcourse.models import LoadedModel

# own.json tells a folder of ours from any other one, which is never written into.
STATE, PAIRS, MODEL, LOCK = "own.json", "pairs.csv", "model", ".lock"


def run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | None = None,
    test: str | os.PathLike[str] | None = None,
    hold_out: str | None = None,
    epochs: float | None = None,
    **called: Any,
) -> Result:
    """Go all the way: pairs, split, training, evaluation, model folder, report.

    In `out` each step leaves its file: pairs.csv, rejected.jsonl, split/train.jsonl and test.jsonl,
    model/, answers.json, report.html. A second run goes on from what is there: pairs that were
    reviewed are used as they are now, a stopped training goes on, and a finished one is not
    repeated where nothing changed.

    Args:
        source: A folder of documents or a file of pairs; see `read`.
        out: A folder, new, empty, or of an earlier run on the same data.
        base: The model to tune; the tier's if not given (`tiers.pair().learner`).
        test: A file of test pairs; 20 % of the pairs if not given. A field `keys` has what a right
            answer must contain.
        hold_out: See `split`.
        epochs: How often every pair is seen; chosen from their number if not given.
        called: `schema` and `fields`: what the fields of a file are called; see `read`.

    Raises:
        SettingError: `out` holds something else, or other data; or see `models.load`.
        DataError: the data can't be used; the message says what is wrong, where, and the way out.
        TrainingStopped: by Ctrl-C; the same call goes on.
        NoSpace: the disk is full.
    """
    from llmcourse.finetuning.tuned import card, facts
    from llmcourse.models import FACTS

    tests = None if test is None else pairs_of(Path(test).expanduser(), **called)
    with _opened(read(source, **called), out, base) as run:
        folder = run.folder
        records, writing = run.pairs()
        parts = run.split(records, tests, hold_out)
        tuned = run.train(parts, epochs)
        passages = run.source.passages
        learned, _ = training.divided(parts.train)  # look-up knows what the tuned model does
        assessment = assess(run.models[0], tuned, parts.test, passages, known=learned)
        files.write_json(folder / "answers.json", assessment.answers().to_dict("records"))
        # The card goes with the model wherever it is taken, so the results belong there too.
        results = {f"{m}, test pairs": assessment.score(TUNED, m) for m in assessment.metrics}
        files.write_text(folder / MODEL / "README.md", card(tuned, results))
        files.write_json(folder / MODEL / FACTS, facts(tuned, results))
        findings = {"pairs": data.inspect(training.plain(records), tokenizer=tuned, name=PAIRS)}
        if run.source.kind == "documents":
            findings = {"documents": run.source.inspected(tuned.tokenizer)} | findings
        result = Result(run.source, findings, writing, parts, tuned, assessment, folder)
        print(f"Report: {files.shown(report(result, folder / 'report.html'))}")
        print(f"Model: {files.shown(folder / MODEL)}")
    return result


def write_pairs(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | None = None,
    **called: Any,
) -> Path:
    """The first half of `run`: write pairs.csv, to be read and corrected before the training.

    Args:
        source, out, base, called: See `run`.

    Returns:
        pairs.csv; one that is there already stays as it is.

    Raises:
        SettingError, DataError, NoSpace: see `run`.
    """
    with _opened(read(source, **called), out, base) as run:
        records, _ = run.pairs()
        if len(records) < LEAST:
            print(f"That is too few: {LEAST} are needed. Add some to {PAIRS} while you read it.")
        return run.folder / PAIRS


@contextmanager
def _opened(contents: Source, out: Any, base: str | None) -> Iterator[_Run]:
    """Hold the folder for one run at a time.

    Raises:
        SettingError: it is a file, lies in the documents, or holds something else or other data.
    """
    folder = Path(out).expanduser()
    name = files.shown(folder)
    # (resolved, as a link may lead back into the documents)
    below = folder.resolve().is_relative_to(Path(contents.name).expanduser().resolve())
    if contents.kind == "documents" and below:
        raise SettingError(f"{name} is in the folder of the documents. Name one elsewhere.")
    there = {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else set()
    if folder.is_file() or (there and STATE not in there):
        raise SettingError(f"{name} holds something else already. Name a new or empty folder.")
    with files.lock(folder / LOCK, f"Another run works in {name}; waiting for it."):
        state = folder / STATE
        known = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
        if known.get("digest", contents.digest) != contents.digest and (folder / PAIRS).exists():
            raise SettingError(
                f"{files.shown(folder / PAIRS)} was made from other data, {known['source']} as it "
                f"was then. Name another folder, or move pairs.csv away."
            )
        run = _Run(contents, folder, known, base)
        # Kept before the first step, so that the folder is known as ours after a stop.
        run.keep(source=contents.name, digest=contents.digest)
        print(str(contents))
        yield run


@dataclass
class _Run:
    """The steps of a run; `known` is what own.json keeps from one call to the next."""

    source: Source
    folder: Path
    known: dict[str, Any]
    base: str | None

    def keep(self, **values: Any) -> None:
        """Remember values on the disk."""
        self.known |= values
        files.write_json(self.folder / STATE, self.known)

    @cached_property
    def models(self) -> tuple[LoadedModel, LoadedModel]:
        """The chat model that is prompted, and the model to tune: the same, if it can.

        Loaded only when needed: reading pairs takes no model.
        """
        from llmcourse import models

        learner = models.load(self.base or tiers.pair().learner)
        chats = getattr(learner.tokenizer, "chat_template", None)
        return learner if chats else models.load("chat"), learner

    def pairs(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The pairs as they are now, and how they came about."""
        path = self.folder / PAIRS
        if not path.exists():
            written = pairs(self.source)
            if written.rejected:
                data.save_records(written.rejected, self.folder / "rejected.jsonl")
            save_for_review(written.records, path)
            by = [record["written"] for record in written.records]
            # To know later whether somebody has changed the file.
            writing = {"counts": Counter(by), "rejected": written.reasons()}
            self.keep(writing=writing | {"digest": digest(path.read_bytes())})
            print(
                f"{len(written.records)} pairs written to {files.shown(path)}, "
                f"{len(written.rejected)} rejected."
            )
        records = load_reviewed(path)
        # A run that was killed between the file and own.json knows nothing of how it was written.
        writing = self.known.get("writing") or {"counts": {}, "rejected": [], "digest": None}
        reviewed = writing["digest"] not in (None, digest(path.read_bytes()))
        if reviewed:
            print(f"{files.shown(path)} was reviewed: {len(records)} pairs are kept.")
        return records, writing | {"kept": len(records), "reviewed": reviewed}

    def split(
        self, records: list[dict[str, Any]], tests: Source | None, hold_out: str | None
    ) -> Parts:
        """The two parts, as many pairs of each as the tier allows; written to split/."""
        size = training.sizes()
        full = split(records, test=tests.records if tests else None, hold_out=hold_out)
        # The test first, so that the pairs that teach what it asks can be kept.
        test = trimmed(full.test, size.questions)
        train = trimmed(full.train, size.pairs, like=test)
        notes = [*full.notes]
        for part, kept, all_ in (("train", train, full.train), ("test", test, full.test)):
            if len(kept) < len(all_):
                notes.append(f"Of {len(all_)} pairs to {part}, this tier uses {len(kept)}.")
            data.save_records(kept, self.folder / "split" / f"{part}.jsonl")
        notes += [f"left out of the test: {line}" for line in (tests.problems if tests else ())]
        parts = Parts(train, test, full.held_out, notes)
        print(str(parts))
        return parts

    def train(self, parts: Parts, epochs: float | None) -> TunedModel:
        """The tuned model: loaded where it is there, resumed where it was stopped.

        Every eighth pair is kept out of training, for the loss that is looked at on the way and
        that the advice goes by; the test questions are only asked at the end.
        """
        learner, folder = self.models[1], self.folder / MODEL
        learned, validation = training.divided(parts.train)
        config = training.settings(learned, learner)
        config = replace(config, epochs=config.epochs if epochs is None else epochs)
        # The test is not in it: another one asks the same model.
        fingerprint = digest([learner.name, training.plain(parts.train), vars(config), epochs])
        if self.known.get("training", fingerprint) != fingerprint and folder.exists():
            print("The pairs or the settings changed: model/ is trained again.")
            # Gone before the new fingerprint is kept, so that a stop in between does no harm.
            shutil.rmtree(folder)
        self.keep(training=fingerprint)
        return training.train(
            learner,
            learned,
            config,
            held_out=validation,
            out=folder,
        )
