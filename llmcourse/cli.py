"""The command line: doctor, prefetch, run, results, ask, inspect, finetune, own, harness, notebook,
progress, catch-up, class-report, serve-kit, lab.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmcourse import __version__, tiers
from llmcourse.errors import (
    CourseError,
    HubError,
    ModelNotInstalled,
    NotebookError,
    first_line,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted, 141 the pipe was closed.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows "?" instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        if getattr(options, "tier", None):
            # a setting like any other: the kernels of lessons inherit it
            os.environ["LLMCOURSE_TIER"] = options.tier
        return options.command(options) or 0
    except KeyboardInterrupt:
        print("\nStopped. Run the same again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout at its end, which would raise once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get("LLMCOURSE_DEBUG"):
            raise
        stopped = getattr(error, "by_user", False)  # a `finetuning.TrainingStopped`, by Ctrl-C
        print(f"\n{error}" if stopped else f"error: {_message(error)}", file=sys.stderr)
        return 130 if stopped else 1


def _message(error: Exception) -> str:
    """Our own errors as they are, the system's and unexpected ones in a line."""
    if isinstance(error, CourseError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        if error.name == "classroom":
            return "this command needs the course's own folder: clone it, then python3 install.py"
        return f"the package {error.name} is missing: pip install -r requirements.txt"
    if isinstance(error, OSError) and error.strerror:  # its own text has a number and quotes
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (
        f"{type(error).__name__}: {first_line(error)}. This was not foreseen; set "
        f"LLMCOURSE_DEBUG=1 to see where it happened."
    )


# --- what can be typed ----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmcourse",
        description='Companion to the short course "Finetuning Large Language Models".',
        epilog="Settings are environment variables: LLMCOURSE_TIER (smoke, cpu, gpu), "
        f"LLMCOURSE_MODELS ({', '.join(tiers.PAIRS)}), LLMCOURSE_CACHE (converted models), "
        "LLMCOURSE_WORK (your ledger and files), LLMCOURSE_DEVICE, LLMCOURSE_DTYPE.",
    )
    parser.add_argument("--version", action="version", version=f"llmcourse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    tier = argparse.ArgumentParser(add_help=False)
    tier.add_argument("--tier", choices=list(tiers.TIERS), help="default: this machine's")

    def add(
        name: str, command: Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        # these show and open what is there, whatever the tier
        any_tier = ("progress", "catch-up", "class-report", "serve-kit", "lab")
        parents = [] if name in any_tier else [tier]
        about = text[0].upper() + text[1:] + "."
        sub = commands.add_parser(name, help=text, description=about, parents=parents)
        sub.set_defaults(command=command)
        return sub

    def called(sub: argparse.ArgumentParser) -> None:
        about = "what the fields are called, if not found, as instruction/output or messages"
        sub.add_argument("--schema", metavar="NAME", help=about)
        about = "the same one by one, as question=Frage answer=Antwort"
        sub.add_argument("--fields", nargs="+", type=_pair, metavar="OURS=THEIRS", help=about)

    sub = add("doctor", _doctor, "say what this machine can do and what is missing")
    ready = "before a class: one line, ready or what to do, and a file for the teacher"
    sub.add_argument("--class", action="store_true", dest="in_class", help=ready)
    pseudonym = "yours, or a pseudonym, for the teacher (kept; asked if not given)"
    sub.add_argument("--name", help=pseudonym)

    sub = add("prefetch", _prefetch, "get the models ready, so that no lesson waits or downloads")
    sub.add_argument("models", nargs="*", metavar="NAME", help="default: the tier's two models")
    about = "let several users' notebooks share the weights' memory (up to 1.6 GB more on disk)"
    sub.add_argument("--share", action="store_true", help=about)

    sub = add("run", _run, "run the lessons, leaving executed copies and HTML pages")
    sub.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers (default: all)")
    sub.add_argument("--notebooks", metavar="FOLDER", help="where the lessons are")
    sub.add_argument("--out", metavar="FOLDER", default="build/course", help="default: %(default)s")
    sub.add_argument("--save", action="store_true", help="also write outputs into the lessons")

    sub = add("results", _results, "print the ledger: the course's claims as measured here")
    sub.add_argument("--json", action="store_true", help="as JSON")

    sub = add("ask", _ask, "ask a model something")
    sub.add_argument("question", help="what to ask")
    sub.add_argument("--model", default="chat", help="base, chat, a folder or owner/name")
    sub.add_argument("--template", help="plain, qa, alpaca, llama2 or chat (default: its own)")
    sub.add_argument("--system", help="the system prompt")
    sub.add_argument("--tokens", type=int, help="longest answer")
    sub.add_argument("--temperature", type=float, default=0.0, help="default: 0, always the same")

    sub = add("inspect", _inspect, "look at a data set: its sizes, and what is wrong with it")
    kinds = "records (.jsonl, .json, .csv, .tsv, .parquet), or a folder of documents"
    sub.add_argument("file", metavar="FILE", help=kinds)
    sub.add_argument("--test", metavar="FILE", help="test records, which must not be in FILE")
    called(sub)
    sub.add_argument("--model", metavar="NAME", help="whose tokens count (default: base), or none")
    sub.add_argument("--longest", type=int, default=512, metavar="N", help="default: %(default)s")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON (default where it is piped)")
    form.add_argument("--text", action="store_true", help="as text (default on a terminal)")

    sub = add("finetune", _finetune, "train a model on records, and save what it has learned")
    sub.add_argument("--data", required=True, metavar="FILE", help="records to train on")
    sub.add_argument("--base", default="base", metavar="NAME", help="default: %(default)s")
    sub.add_argument("--out", metavar="FOLDER", help="for the tuned model (default: DATA-BASE)")
    sub.add_argument("--test", metavar="FILE", help="records to measure the loss on meanwhile")
    called(sub)
    prompt = "answered at each evaluation"
    sub.add_argument("--sample-prompt", metavar="QUESTION", help=prompt)
    between = "updates between two evaluations (default: %(default)s)"
    sub.add_argument("--eval-steps", type=int, default=10, metavar="N", help=between)
    sub.add_argument("--fresh", action="store_true", help="start over, removing what is in --out")
    for name, (kind, text) in CONFIG.items():
        metavar = "NAME" if kind is str else "N"
        sub.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)

    sub = add("own", _own, "make a model of your own documents or pairs, measured, with a report")
    source = "a folder of documents, or a file of pairs (.csv, .jsonl)"
    sub.add_argument("source", metavar="SOURCE", help=source)
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where everything goes")
    sub.add_argument("--base", metavar="NAME", help="the model to tune (default: the tier's)")
    sub.add_argument("--test", metavar="FILE", help="test pairs (default: a fifth of the pairs)")
    kinds = "what the test asks: trained facts in other words, other facts, or other questions"
    sub.add_argument("--hold-out", choices=("wordings", "facts", "questions"), help=kinds)
    sub.add_argument("--epochs", type=float, metavar="N", help="how often every pair is seen")
    called(sub)
    review = "stop after pairs.csv is written, to correct it"
    sub.add_argument("--review", action="store_true", help=review)

    sub = add("harness", _harness, "measure a model with EleutherAI's lm-evaluation-harness")
    sub.add_argument("--model", default="chat", help="base, chat, a folder or owner/name")
    sub.add_argument("--tasks", nargs="+", metavar="NAME", help="default: ferrowick_choices")
    sub.add_argument("--limit", type=int, metavar="N", help="only the first so many questions")
    sub.add_argument("--batch-size", type=int, metavar="N", help="default: the tier's")
    template = "ask public tasks in the model's chat template"
    sub.add_argument("--chat-template", action="store_true", help=template)
    sub.add_argument("--out", metavar="FILE", help="a .json file for the results")

    sub = add("notebook", _notebook, "run one of the course's original notebooks, unchanged")
    sub.add_argument("notebook", metavar="FILE.ipynb", help="it is read, never changed")
    substitute = "replace models and data that are gone by packaged models and invented data"
    sub.add_argument("--substitute", action="store_true", help=substitute)
    steps = "end a training after so many updates that has no limit of its own"
    sub.add_argument("--steps", type=int, metavar="N", help=steps)
    copy = "for the executed copy (default: %(default)s)"
    sub.add_argument("--out", metavar="FOLDER", default="build/labs", help=copy)

    sub = add("progress", _progress, "show which exercises and quiz questions are solved")
    export = "write it with your ledger to progress-NAME.json, for the teacher"
    sub.add_argument("--export", action="store_true", help=export)
    sub.add_argument("--name", help=pseudonym)

    sub = add("catch-up", _catch_up, "get what earlier lessons make, where you fell behind")
    sub.add_argument("lesson", metavar="NN", help="the lesson that you go on with")
    kit = "the teacher's folder of data and adapters (default: checkpoints/ of the course)"
    sub.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help=kit)
    skip = "also get what lesson NN itself trains (for a slow machine)"
    sub.add_argument("--skip-training", action="store_true", help=skip)

    sub = add("class-report", _class_report, "for a teacher: one page of what learners exported")
    sub.add_argument("folder", metavar="FOLDER", help="with the learners' files")

    sub = add("serve-kit", _serve_kit, "for a teacher: offer an offline kit to the room")
    sub.add_argument("folder", metavar="FOLDER", help="of the kit, as made by make kit")
    sub.add_argument("--port", type=int, default=8700, metavar="N", help="default: %(default)s")

    sub = add("lab", _lab, "open JupyterLab on the first lesson")
    sub.add_argument("--notebooks", metavar="FOLDER", help="where the lessons are")
    sub.add_argument("--no-browser", action="store_true", help="only print the address")
    more = "for Jupyter itself; on a remote machine, e.g. -- --ip 0.0.0.0 --port 8888"
    sub.add_argument("options", nargs="*", metavar="-- OPTION", help=more)
    return parser


def _pair(text: str) -> tuple[str, str]:
    """An argument of --fields."""
    ours, equals, theirs = text.partition("=")
    if not equals or not theirs.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: write it as question=Frage")
    return ours.strip(), theirs


def _called(options: argparse.Namespace) -> dict[str, Any]:
    """What --schema and --fields say, for `data.load_records`."""
    return {"schema": options.schema, "fields": dict(options.fields or ())}


# Fields of `finetuning.Config` that are options; one that is not given keeps its default there.
CONFIG: dict[str, tuple[type, str]] = {
    "method": (str, "lora or full"),
    "template": (str, "plain, qa, alpaca, llama2 or chat"),
    "epochs": (float, "how often every record is seen (default: by the data)"),
    "steps": (int, "updates, instead of epochs"),
    "learning_rate": (float, "default: by the model and method"),
    "batch_size": (int, "records per update"),
    "max_length": (int, "longest record in tokens"),
    "rank": (int, "of the adapter (default: 32)"),
    "prompt_dropout": (float, "share of the questions' words left out at random (default: 0.3)"),
    "seed": (int, "of all random numbers"),
    "optimizer": (str, "adamw, adafactor or sgd"),
    "memory_gb": (float, "most memory to use, in gigabytes"),
    "patience": (int, "evaluations without a lower loss on --test before it stops"),
}


# --- the commands ---------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    from llmcourse import doctor

    if options.in_class or options.name:
        from llmcourse import workshop

        name = workshop.learner(options.name)  # asked first, as the checks take a moment
        line = workshop.check(name, doctor.examine())
        print(line)
        return int(not line.startswith("Ready"))
    checks = doctor.examine()
    print(doctor.report(checks))
    return int(any(check.advice for check in checks))


def _prefetch(options: argparse.Namespace) -> None:
    from llmcourse import models

    for name, where in models.prefetch(options.models or None, share=options.share).items():
        print(f"{name}: ready in {where}")


def _run(options: argparse.Namespace) -> None:
    from llmcourse import notebooks

    paths = notebooks.find(notebooks.folder(options.notebooks), options.lessons)
    # Flushed, as a run takes minutes and Python keeps the lines for a pipe back.
    runs = notebooks.run(
        paths, Path(options.out), save=options.save, say=lambda text: print(text, flush=True)
    )
    print(f"Executed copies and HTML pages are in {options.out}/")
    if failed := [f"{run.name}, {run.error}" for run in runs if run.error]:
        raise NotebookError("; ".join(failed))


def _results(options: argparse.Namespace) -> None:
    from llmcourse import claims

    _print_json(claims.read()) if options.json else print(claims.as_text())


def _print_json(value: Any) -> None:
    """Print JSON that keeps every character, whatever the encoding of stdout."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    print(json.dumps(value, indent=2, ensure_ascii=encoding != "utf8"))


def _ask(options: argparse.Namespace) -> None:
    from llmcourse import generation, models

    (answer,) = generation.generate(
        models.load(options.model),
        options.question,
        options.template,
        system=options.system,
        max_new_tokens=options.tokens,
        temperature=options.temperature,
    )
    print(answer.text.strip("\n"))
    if not answer.finished:
        cut = f"(cut off after {answer.new_tokens} tokens; --tokens N allows more)"
        print(cut, file=sys.stderr)


def _inspect(options: argparse.Namespace) -> None:
    from llmcourse import data

    # Bad records are left out and listed, so that one of them does not hide the others.
    records, problems, left_out = _load(options.file, _called(options))
    test = None
    if options.test:
        test, test_problems, skipped = _load(options.test, _called(options))
        left_out += [*skipped, *test_problems.to_dict("records")]
    report = data.inspect(
        records,
        tokenizer=_tokenizer(options.model),
        test=test,
        longest=options.longest,
        name=Path(options.file).name or options.file,
        problems=problems,
    )
    left_out = [*problems.to_dict("records"), *left_out]
    if options.json or not (options.text or sys.stdout.isatty()):
        _print_json(report.as_dict() | {"problems": left_out})
        return
    for row in left_out[:10]:
        print(f"left out: {data.Problem(**row)}")
    if len(left_out) > 10:
        print(f"left out: and {len(left_out) - 10:,} more")
    print(report.as_text())


def _load(source: str, called: dict[str, Any]) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Records of a file or a folder of documents, a table of the bad ones, the skipped files."""
    from llmcourse import data

    given: Any = source
    skipped: list[dict[str, Any]] = []
    if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises for some names, this does not
        found = data.read_documents(source)
        skipped = [vars(problem) for problem in found.skipped]
        for guess in found.guessed:
            print(f"note: {guess}", file=sys.stderr)
        given = [passage.record() for passage in found.passages]
        called = {"schema": "text"}
    records, problems = data.load_records(given, **called, strict=False)
    return records, problems, skipped


def _tokenizer(name: str | None) -> Any:
    """The tokenizer of a model; None for words, as where the default is not installed."""
    from llmcourse import models

    if name == "none":  # count words
        return None
    try:
        return models.load_tokenizer(name or "base")
    except (ModelNotInstalled, HubError) as error:
        if name:
            raise
        print(f"note: lengths are counted in words. {error}", file=sys.stderr)
        return None


def _finetune(options: argparse.Namespace) -> None:
    from llmcourse import data, finetuning, models

    given = {name: value for name in CONFIG if (value := getattr(options, name)) is not None}
    config = finetuning.Config(**given)
    called = _called(options)
    records = data.load_records(options.data, **called)
    held_out = data.load_records(options.test, **called) if options.test else None
    print(f"{options.data}: {len(records):,} records read as {'; '.join(data.how_read(records))}")
    model = models.load(options.base)
    out = options.out or f"{Path(options.data).stem}-{Path(options.base).name}"
    tuned = finetuning.finetune(
        model,
        records,
        config,
        out=out,
        held_out=held_out,
        sample_prompts=options.sample_prompt or (),
        eval_steps=options.eval_steps,
        fresh=options.fresh,
    )
    print(
        f"{tuned.title}: {len(tuned.history)} updates, {tuned.trained:,} weights trained, "
        f"{tuned.tokens_per_second:.0f} tokens per second. It is in {out}."
    )
    print(f'Ask it: python -m llmcourse ask --model "{out}" "…"')


def _own(options: argparse.Namespace) -> None:
    from llmcourse import own

    if options.review:
        path = own.write_pairs(options.source, options.out, base=options.base, **_called(options))
        print(
            f"Read {path} in a spreadsheet: correct questions and answers, write no under keep "
            f"where a pair is bad, and save it as CSV. Then run the same without --review."
        )
        return
    given = {name: getattr(options, name) for name in ("base", "test", "hold_out", "epochs")}
    result = own.run(options.source, options.out, **given, **_called(options))
    print(result.assessment.table().to_string())
    for line in own.advice(result):
        print(f"- {line}")


def _harness(options: argparse.Namespace) -> None:
    from llmcourse import company
    from llmcourse.evaluation import harness

    # Tasks of our own, under the same command as the public ones.
    local = {
        "ferrowick_choices": company.records("choices"),
        "ferrowick_facts": company.records("questions", "test", keys=True),
    }
    results = harness.run(
        options.model,
        options.tasks or "ferrowick_choices",
        local,
        limit=options.limit,
        batch_size=options.batch_size,
        chat_template=options.chat_template,
        out=options.out,
    )
    print(results)
    if options.out:
        print(f"It is in {options.out}.")


def _notebook(options: argparse.Namespace) -> int:
    from llmcourse_legacy import lab

    done = lab.run(
        options.notebook,
        options.out,
        substitute=options.substitute,
        steps=options.steps,
        say=lambda text: print(text, flush=True),
    )
    return int(any(cell.error for cell in done))


def _progress(options: argparse.Namespace) -> None:
    if options.export or options.name:
        from llmcourse import workshop

        path = workshop.export(workshop.learner(options.name))
        print(f"Read {path}, then send it to your teacher.")
        return
    from llmcourse.exercises import progress_text

    print(progress_text())


def _catch_up(options: argparse.Namespace) -> None:
    from llmcourse import workshop

    source, skip = options.source or workshop.CHECKPOINTS, options.skip_training
    print("\n".join(workshop.catch_up(options.lesson, source, skip_training=skip)))


def _class_report(options: argparse.Namespace) -> None:
    from classroom import report

    page, table, left_out = report.write(Path(options.folder))
    print("\n".join([*left_out, f"Written: {page} and {table}"]))


def _serve_kit(options: argparse.Namespace) -> None:
    from classroom import serve

    serve.serve(Path(options.folder), options.port)


def _lab(options: argparse.Namespace) -> int:
    from llmcourse import notebooks

    return notebooks.open_lab(options.notebooks, options.options, browser=not options.no_browser)
