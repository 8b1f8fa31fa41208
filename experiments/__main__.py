"""Measure the course's claims with enough questions and seeds.

    python -m experiments                    every claim: about five hours on two cores
    python -m experiments paraphrases lora   these alone
    python -m experiments --quick            a few questions and updates: does everything run?

Stop it at any time; the same command goes on where it was. Every answer is kept in
`experiments/answers/`, so that anyone can count again; each claim's result goes to
`llmcourse/results/CLAIM.json`, from where lessons, README and site take it. After a change of an
arm, remove its answers, or start with `--fresh`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import behaviour, desk, facts, search
from experiments.run import SIZES, Run, describe, environment, result
from llmcourse import claims
from llmcourse.files import work_dir, write_json

ANSWERS = Path(__file__).parent / "answers"
RESULTS = Path(claims.__file__).parent / "results"
EXPERIMENTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    **behaviour.CLAIMS,
    **facts.CLAIMS,
    **desk.CLAIMS,
    **search.CLAIMS,
}
_opened: list[Any] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note connections to other machines."""
    address = arguments[1] if event == "socket.connect" else None
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        _opened.append(address)


def main() -> None:
    """Measure what is asked for and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=", ".join(EXPERIMENTS))
    parser.add_argument("--quick", action="store_true", help="too few questions for any conclusion")
    parser.add_argument("--seeds", type=int, help="the first so many seeds alone (default: all)")
    parser.add_argument("--folder", type=Path, help="where adapters are kept, and answers as well")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--fresh", action="store_true", help="remove what is kept, and start again")
    options = parser.parse_args()
    if unknown := set(options.claims) - set(EXPERIMENTS):
        parser.error(f"unknown claims: {', '.join(sorted(unknown))}")
    size = SIZES["quick" if options.quick else "published"]
    size = replace(size, seeds=options.seeds or size.seeds)
    if options.quick and options.results == RESULTS:
        parser.error("--quick needs --results FOLDER: its numbers are not for publishing.")
    folder = options.folder or work_dir() / "experiments" / size.name
    answers = folder / "answers" if options.folder or options.quick else ANSWERS
    if options.fresh:
        for kept in (folder, answers):
            shutil.rmtree(kept, ignore_errors=True)
    run = Run(folder, size, answers=answers)
    _check(run)
    sys.addaudithook(_watch)
    for name in options.claims or EXPERIMENTS:
        run.measured_on.clear()
        found = {**EXPERIMENTS[name](run), "measured on": run.measured_on}
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / f"{name}.json", found)
        print(f"{name}: {claims.HOLDS[found['holds']]}", flush=True)
    if not options.claims:
        private = {**_private(run), "measured on": [environment()]}
        write_json(options.results / "private.json", private)
    print(f"{run.seconds / 3600:.1f} hours of measuring are kept in {answers}")


def _check(run: Run) -> None:
    """Keep a run with another size or other models out of the folder."""
    path = run.kept_in / "run.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept != describe(run):
            sys.exit(f"{run.kept_in} holds a run of another size or other models; use --fresh.")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, describe(run))


def _private(run: Run) -> dict[str, Any]:
    """Connections to other machines while all claims were measured."""
    found = result(
        "private",
        run,
        {},
        [],
        holds=lambda _: not _opened,
        measured="connections to other machines that Python opened",
        setting="the whole published run, or its last part where it was stopped",
        extra={"connections": len(_opened)},
    )
    return {**found, "command": "python -m experiments"}


if __name__ == "__main__":
    main()
