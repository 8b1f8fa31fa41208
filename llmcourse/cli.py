"""The command line: doctor, prefetch, run, results, ask, inspect, finetune, own, harness, notebook,
progress, lab.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
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
    SettingError,
    first_line,
)
from llmcourse.files import is_writable, writable_cache


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted, 141 the pipe was closed.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign shows "?" instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        if getattr(options, "tier", None):
            os.environ["LLMCOURSE_TIER"] = options.tier
        return options.command(options)
    except KeyboardInterrupt:
        print("\nStopped. Run the same again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get("LLMCOURSE_DEBUG"):
            raise
        print(f"error: {_told(error)}", file=sys.stderr)
        return 1


def _told(error: Exception) -> str:
    """What the reader is told: our own errors as they are, others with the way to more."""
    if isinstance(error, CourseError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the package {error.name} is missing. Install what the course needs: "
            f"pip install -r requirements.txt"
        )
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return (
        f"{type(error).__name__}: {first_line(error)}. This was not foreseen; set "
        f"LLMCOURSE_DEBUG=1 to see where it happened."
    )


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

    def add(name: str, command: Callable, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command)
        return sub

    def add_tier(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--tier", choices=list(tiers.TIERS), help="default: this machine's")

    sub = add("doctor", _doctor, "say what this machine can do and what is missing")
    add_tier(sub)

    sub = add("prefetch", _prefetch, "get the models ready, so that no lesson waits or downloads")
    sub.add_argument("models", nargs="*", metavar="NAME", help="default: the tier's two models")
    add_tier(sub)

    sub = add("run", _run, "run the lessons, leaving executed copies and HTML pages")
    sub.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers (default: all)")
    sub.add_argument("--notebooks", metavar="FOLDER", help="where the lessons are")
    sub.add_argument("--out", metavar="FOLDER", default="build/course", help="default: %(default)s")
    sub.add_argument("--save", action="store_true", help="also write outputs into the lessons")
    add_tier(sub)

    sub = add("results", _results, "print the ledger: the course's claims as measured here")
    sub.add_argument("--json", action="store_true", help="as JSON")
    add_tier(sub)

    sub = add("ask", _ask, "ask a model something")
    sub.add_argument("question", help="what to ask")
    sub.add_argument("--model", default="chat", help="base, chat, a folder or owner/name")
    sub.add_argument("--template", help="plain, qa, alpaca, llama2 or chat (default: its own)")
    sub.add_argument("--system", help="what the model is told first")
    sub.add_argument("--tokens", type=int, help="longest answer")
    sub.add_argument("--temperature", type=float, default=0.0, help="default: 0, always the same")
    add_tier(sub)

    sub = add("inspect", _inspect, "look at a data set: its sizes, and what is wrong with it")
    sub.add_argument(
        "file",
        metavar="FILE",
        help="records (.jsonl, .json, .csv, .tsv, .parquet), or a folder of documents",
    )
    sub.add_argument("--test", metavar="FILE", help="test records, which must not be in FILE")
    sub.add_argument("--schema", metavar="NAME", help="what the fields are called, if not found")
    sub.add_argument("--model", metavar="NAME", help="whose tokens count (default: base), or none")
    sub.add_argument("--longest", type=int, default=512, metavar="N", help="default: %(default)s")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON (default where it is piped)")
    form.add_argument("--text", action="store_true", help="as text (default on a terminal)")
    add_tier(sub)

    sub = add("finetune", _finetune, "train a model on records, and save what it has learned")
    sub.add_argument("--data", required=True, metavar="FILE", help="records to train on")
    sub.add_argument("--base", default="base", metavar="NAME", help="default: %(default)s")
    sub.add_argument("--out", metavar="FOLDER", help="for the tuned model (default: DATA-BASE)")
    sub.add_argument("--test", metavar="FILE", help="records whose loss is measured on the way")
    sub.add_argument("--schema", metavar="NAME", help="what the fields are called, if not found")
    sub.add_argument("--watch", metavar="QUESTION", help="answered every few updates")
    sub.add_argument(
        "--every",
        type=int,
        default=10,
        metavar="N",
        help="updates between two looks (default: %(default)s)",
    )
    sub.add_argument("--fresh", action="store_true", help="begin anew, removing what is in --out")
    sub.add_argument("--tensorboard", metavar="FOLDER", help="write TensorBoard's files there")
    _add_settings(sub)
    add_tier(sub)

    from llmcourse.own.command import add_arguments

    sub = add("own", _own, "make a model of your own documents or pairs, measured, with a report")
    add_arguments(sub)
    add_tier(sub)

    sub = add("harness", _harness, "measure a model with EleutherAI's lm-evaluation-harness")
    sub.add_argument("--model", default="chat", help="base, chat, a folder or owner/name")
    sub.add_argument("--tasks", nargs="+", metavar="NAME", help="default: ferrowick_choices")
    sub.add_argument("--limit", type=int, metavar="N", help="only the first so many questions")
    sub.add_argument("--batch-size", type=int, metavar="N", help="default: the tier's")
    sub.add_argument(
        "--chat-template", action="store_true", help="ask public tasks in the model's chat template"
    )
    sub.add_argument("--out", metavar="FILE", help="a .json file for the results")
    add_tier(sub)

    from llmcourse_legacy import lab

    sub = add("notebook", _notebook, "run one of the course's original notebooks, unchanged")
    lab.add_arguments(sub)
    add_tier(sub)

    add("progress", _progress, "show which exercises and quiz questions are solved")

    sub = add("lab", _lab, "open JupyterLab on the first lesson")
    sub.add_argument("--notebooks", metavar="FOLDER", help="where the lessons are")
    sub.add_argument("--no-browser", action="store_true", help="only print the address")
    sub.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="for Jupyter itself, e.g. -- --allow-root"
    )
    return parser


_SETTINGS: tuple[tuple[str, type, str], ...] = (
    ("method", str, "lora or full"),
    ("template", str, "plain, qa, alpaca, llama2 or chat"),
    ("epochs", float, "how often every record is seen (default: by the data)"),
    ("steps", int, "updates, instead of epochs"),
    ("learning_rate", float, "default: by the model and method"),
    ("batch_size", int, "records an update"),
    ("max_length", int, "longest record in tokens"),
    ("rank", int, "of the adapter (default: 32)"),
    ("seed", int, "of all chance"),
    ("optimizer", str, "adamw, adafactor or sgd"),
    ("memory_gb", float, "most memory to be taken, in gigabytes"),
    ("patience", int, "looks without a lower loss on --test before it stops"),
)


def _add_settings(sub: argparse.ArgumentParser) -> None:
    """The settings of `finetuning.Config`; what is not given keeps its default there."""
    for name, kind, text in _SETTINGS:
        sub.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar="N" if kind is not str else "NAME",
            help=text,
        )


def _finetune(options: argparse.Namespace) -> int:
    from llmcourse import data, finetuning, models

    given = {
        name: getattr(options, name)
        for name, _, _ in _SETTINGS
        if getattr(options, name) is not None
    }
    config = finetuning.Config(**given)
    records = data.load_records(options.data, schema=options.schema)
    held_out = data.load_records(options.test, schema=options.schema) if options.test else None
    model = models.load(options.base)
    where = options.out or f"{Path(options.data).stem}-{Path(options.base).name}"
    try:
        tuned = finetuning.finetune(
            model,
            records,
            config,
            out=where,
            held_out=held_out,
            watch=options.watch or (),
            every=options.every,
            fresh=options.fresh,
            tensorboard=options.tensorboard,
        )
    except finetuning.TrainingStopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return 130 if stopped.by_user else 1
    print(
        f"{tuned.title}: {len(tuned.history)} updates, {tuned.trained:,} weights trained, "
        f"{tuned.tokens_per_second:.0f} tokens a second. It is in {where}."
    )
    print(f'Ask it: python -m llmcourse ask --model "{where}" "…"')
    return 0


def _own(options: argparse.Namespace) -> int:
    from llmcourse.own import command

    return command.main(options)


def _harness(options: argparse.Namespace) -> int:
    from llmcourse import company
    from llmcourse.evaluation import harness

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
    return 0


def _notebook(options: argparse.Namespace) -> int:
    from llmcourse_legacy import lab

    return lab.main(options)


def _progress(options: argparse.Namespace) -> int:
    from llmcourse.exercises import progress_text

    print(progress_text())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from llmcourse import doctor

    checks = doctor.examine()
    print(doctor.report(checks))
    return 0 if all(check.well for check in checks) else 1


def _prefetch(options: argparse.Namespace) -> int:
    from llmcourse import models

    for name, where in models.prefetch(options.models or None).items():
        print(f"{name}: ready in {where}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from llmcourse import notebooks

    paths = notebooks.find(notebooks.folder(options.notebooks), options.lessons)
    tier = tiers.current().name
    out = Path(options.out)
    runs = notebooks.run(
        paths, out, tier, save=options.save, say=lambda text: print(text, flush=True)
    )
    failed = [run for run in runs if run.error]
    print(f"Executed copies and HTML pages are in {out}/")
    if failed:
        raise NotebookError("; ".join(f"{run.name}, {run.error}" for run in failed))
    return 0


def _print_json(value: Any) -> None:
    """Print JSON that loses no sign, in whatever stdout is encoded."""
    import json

    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    print(json.dumps(value, indent=2, ensure_ascii=encoding != "utf8"))


def _results(options: argparse.Namespace) -> int:
    from llmcourse import claims

    tier = tiers.current().name
    if options.json:
        _print_json(claims.read(tier))
    else:
        print(claims.as_text(tier))
    return 0


def _ask(options: argparse.Namespace) -> int:
    from llmcourse import generation, models

    answer = generation.generate(
        models.load(options.model),
        options.question,
        options.template,
        system=options.system,
        max_new_tokens=options.tokens,
        temperature=options.temperature,
    )[0]
    print(answer.text.strip("\n"))
    if not answer.finished:
        print(
            f"(cut off after {answer.new_tokens} tokens; --tokens N allows more)", file=sys.stderr
        )
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from llmcourse import data

    records, problems, skipped = _records(options.file, options.schema)
    test, *more = _records(options.test, options.schema) if options.test else (None,)
    report = data.inspect(
        records,
        tokenizer=_tokenizer(options.model),
        test=test,
        longest=options.longest,
        name=Path(options.file).name or options.file,
        problems=problems,
    )
    tables = [table.to_dict("records") for table in (problems, skipped, *more)]
    if options.json or not (options.text or sys.stdout.isatty()):
        _print_json(report.as_dict() | {"problems": [row for rows in tables for row in rows]})
        return 0
    for rows in tables:
        for row in rows[:10]:
            print(f"left out: {data.Problem(**row)}")
        if len(rows) > 10:
            print(f"left out: and {len(rows) - 10:,} more")
    print(report.as_text())
    return 0


def _records(source: str, schema: str | None) -> tuple[Any, Any, Any]:
    """Records of a file or a folder of documents, the bad ones, and the files passed over."""
    import pandas

    from llmcourse import data
    from llmcourse.data import skipped_documents

    given: Any = source
    skipped: list[data.Problem] = []
    if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises for some names, this does not
        passages = data.from_documents(source)
        skipped = skipped_documents(source)
        given = [{"text": p.text, "document": p.document, "heading": p.heading} for p in passages]
        schema = schema or "text"
    records, problems = data.load_records(given, schema=schema, strict=False)
    return records, problems, pandas.DataFrame([vars(one) for one in skipped])


def _tokenizer(name: str | None) -> Any:
    """The tokenizer of a model; None for words, as where the default is not installed."""
    if name == "none":
        return None
    from llmcourse import models

    try:
        return models.load_tokenizer(name or "base")
    except (ModelNotInstalled, HubError) as error:
        if name:
            raise
        print(f"note: lengths are counted in words. {error}", file=sys.stderr)
        return None


def _lab(options: argparse.Namespace) -> int:
    from llmcourse import notebooks

    folder = notebooks.folder(options.notebooks).resolve()
    # The lessons link to docs, beside their folder: JupyterLab opens nothing above its root.
    root = folder.parent if (folder.parent / "docs").is_dir() else folder
    first = notebooks.find(folder)[0].relative_to(root).as_posix()
    if importlib.util.find_spec("jupyterlab") is None:
        raise NotebookError("JupyterLab is not installed: pip install jupyterlab")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--notebook-dir={root}",
        f"--LabApp.default_url=/lab/tree/{first}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
    ]
    command += ["--no-browser"] if options.no_browser else []
    # Terminals and `!python` in a lesson find this Python, activated or not.
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    here = {"PATH": os.pathsep.join(filter(None, paths))}
    if sys.prefix != sys.base_prefix:
        here["VIRTUAL_ENV"] = sys.prefix
    # Jupyter keeps settings, running servers and histories in the home folder, and ends where it
    # can't; an unknown user of a container has none.
    home = os.path.expanduser("~")  # noqa: PTH111 - stays "~" where there is none
    if home == "~":
        raise SettingError("JupyterLab needs a home folder. Set HOME to a folder that is yours.")
    if not is_writable(Path(home)):
        places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
        here |= {place: str(writable_cache("jupyter") / place.lower()) for place in places}
    return subprocess.call([*command, *options.options], env=os.environ | here)
