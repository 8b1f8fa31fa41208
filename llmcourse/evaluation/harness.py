"""Benchmarks with EleutherAI's lm-evaluation-harness, on models that `models.load` knows.

Two tasks are Ferrowick's own and need no network: `ferrowick_choices` (four options, the likeliest
is taken) and `ferrowick_facts` (the held-out questions, answered in free words). Any task of the
harness runs by its name too; its data set comes from the hub.

The course ran a script of the harness's repository, `main.py --model hf-causal --model_args
pretrained=… --tasks arc_easy`. Both are gone. The harness's own command is now

    lm-eval run --model hf --model_args pretrained=FOLDER --tasks arc_easy

(for an adapter `pretrained=BASE,peft=FOLDER`), and ours, which also takes the packaged models and
a tuned model's folder as it is:

    python -m llmcourse harness --model FOLDER --tasks arc_easy

Which template a model is asked with:

- Ferrowick's tasks: the model's own, which a tuned model's folder remembers ("qa", "chat", …), as
  `generation.generate` does. So `ferrowick_facts` has the figure that `evaluate` has. A model
  whose template is "plain" gets its choices as the harness's tasks put them, "Question: … Answer:".
- Public tasks: the harness's own words, as published figures of base models are measured. With
  `chat_template=True` they are wrapped in the model's chat template (`--apply_chat_template`).

The package is optional: `pip install "llmcourse[harness]"`.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import files, models, templates, tiers
from llmcourse.errors import HubError, SettingError, first_line, is_out_of_memory, whole
from llmcourse.evaluation.harness_tasks import LOCAL, check_room, write_tasks
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel, hub
from llmcourse.progress import bar, quiet_datasets

if TYPE_CHECKING:
    import argparse

    import pandas

__all__ = ["COLUMNS", "LOCAL", "PUBLIC", "HarnessResults", "main", "run", "write_tasks"]

PUBLIC = ("arc_easy", "arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2")
COLUMNS = ("task", "metric", "value", "stderr", "n")


@dataclass(frozen=True, eq=False)
class HarnessResults:
    """What the harness measured.

    Attributes:
        table: One row a task and metric: task, metric, value (for acc, acc_norm and facts a share
            from 0 to 1), stderr (the harness's standard error of it, NaN where it gives none), and
            n, the number of questions (NaN for a group of tasks where the harness tells none).
        samples: Task -> what the harness keeps of each question: the prompts, what the model said,
            and the metrics.
        notes: What the harness warned of and a reader should know, such as prompts that were cut.
    """

    table: pandas.DataFrame
    samples: dict[str, list[dict[str, Any]]] = field(repr=False)
    notes: list[str]

    def __str__(self) -> str:
        shown = self.table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return "\n".join([shown, *(f"note: {note}" for note in self.notes)])

    def value(self, task: str, metric: str) -> float:
        """One number of the table.

        Raises:
            SettingError: it was not measured.
        """
        rows = self.table[(self.table["task"] == task) & (self.table["metric"] == metric)]
        if rows.empty:
            there = ", ".join(f"{t} {m}" for t, m in self.table[["task", "metric"]].to_numpy())
            raise SettingError(f"{task} {metric} was not measured. Measured: {there}.")
        return float(rows["value"].iloc[0])


def run(
    model: LoadedModel | Path | str,
    tasks: Sequence[str] | str = ("ferrowick_choices",),
    *,
    template: str | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    chat_template: bool = False,
    out: Path | str | None = None,
    progress: bool = True,
) -> HarnessResults:
    """Measure a model with the harness.

    Log-likelihoods are summed in float32, whatever the model computes in.

    Args:
        model: From `models.load`, or what that takes: a role, a packaged name, a folder with a
            model or an adapter, a hub name.
        tasks: Names in `LOCAL`, in `PUBLIC`, or of any other task of the harness.
        template: For Ferrowick's tasks: a name in `templates.NAMES` instead of the model's own.
        limit: Take only the first so many questions of each task.
        batch_size: Texts the model reads at once; the tier's if not given.
        max_new_tokens: Longest answer of `ferrowick_facts`, in tokens; the tier's if not given.
        chat_template: Wrap the questions of public tasks in the model's chat template.
        out: A .json file that the table is written to.
        progress: False shows no progress.

    Raises:
        SettingError: the harness is not installed, a task is unknown, an option is out of range,
            or memory ran out.
        HubError: a public task's data set is not on this machine, and the hub can't be reached.
        PromptError: a prompt and its answer do not fit the model's context.
        TemplateError: see `write_tasks`.
        UnknownModel, CorruptModel, …: see `models.load`.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise SettingError(
            'The evaluation harness is not installed. Install it: pip install "llmcourse[harness]" '
            "(in a copy of the course: pip install -r requirements-harness.txt)."
        )
    names = list(dict.fromkeys([tasks] if isinstance(tasks, str) else tasks))
    limit = None if limit is None else whole("limit", limit, 1)
    size = whole(
        "batch_size", tiers.current().batch_size if batch_size is None else batch_size, 1
    )  # fmt: skip
    public = [name for name in names if name not in LOCAL]
    with _warnings():
        known = _known(public, names)
    if out is not None and Path(out).suffix.lower() != ".json":
        raise SettingError(f"out={str(out)!r}: a file that ends in .json is wanted.")
    if isinstance(model, str | Path):
        model = models.load(str(model))
    check_loaded(model)
    asked = template or model.template
    if public and chat_template:
        templates.render("Has it a chat template?", "chat", tokenizer=model.tokenizer)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _warnings() as notes:
        if local := [name for name in names if name in LOCAL]:
            from lm_eval.tasks import TaskManager

            write_tasks(folder, model, template, max_new_tokens=max_new_tokens)
            check_room(model, asked, local, limit, max_new_tokens)
            manager = TaskManager(include_path=folder, include_defaults=False)
            # A chat template's text holds its special tokens already.
            special = False if asked == "chat" else None
            found.append(_evaluate(model, local, manager, limit, size, progress, special))
        if public:
            found.append(
                _evaluate(model, public, known, limit, size, progress, None, chat_template)
            )
    if notes:
        cut = f"{len(notes)} times the harness cut a prompt on the left to fit the model's context"
        notes = [f"{cut}, as here: {notes[0]}"]
    results = _results(names, found, notes)
    if out is not None:
        _save(Path(out), model, asked, limit, results)
    return results


def main(options: argparse.Namespace) -> int:
    """The command `harness`: options model, tasks, limit, batch_size, chat_template and out."""
    results = run(
        options.model, options.tasks or LOCAL[:1], limit=options.limit, out=options.out,
        batch_size=options.batch_size, chat_template=options.chat_template,
    )  # fmt: skip
    print(results)
    if options.out:
        print(f"It is in {options.out}.")
    return 0


def _known(public: list[str], names: list[str]) -> Any:
    """The harness's index of its own tasks, if one is wanted.

    Raises:
        SettingError: no task is wanted, or one is unknown.
    """
    there = (
        f"On this machine: {', '.join(LOCAL)}. From the hub, among others: {', '.join(PUBLIC)}; "
        f"all of them: lm-eval ls tasks."
    )
    if not names:
        raise SettingError(f"No task is named. {there}")
    if not public:
        return None
    there_are = set(_index().all_tasks)
    for name in public:
        if name not in there_are:
            raise SettingError(f"The harness has no task {name!r}. {there}")
    return _index()


@functools.cache
def _index() -> Any:
    """The harness's own tasks, thousands of files; it takes seconds, so it is done once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _evaluate(
    model: LoadedModel, tasks: list[str], manager: Any, limit: int | None, batch_size: int,
    progress: bool, special: bool | None, chat_template: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The harness's own results for some of its tasks.

    As its `simple_evaluate`, but for what that does besides: it describes this machine, calls git
    and the hub, and sets the seeds of Python, NumPy and torch.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator import evaluate

    local = set(tasks) <= set(LOCAL)  # then `datasets` shall not report to the hub either
    reachable = not local and _reachable(tasks[0])
    told = f"{model.title} in the harness"
    try:
        with bar(1, told, enabled=progress) as line, quiet_datasets(), _offline(not reachable):
            loaded = manager.load(tasks)
            for task in loaded["tasks"].values():
                if task.get_config("num_fewshot") is None:
                    task.set_config(key="num_fewshot", value=0)
                task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
            return evaluate(
                _wrapped(model, batch_size, special, line),
                loaded,
                limit=limit,
                apply_chat_template=chat_template,
                fewshot_as_multiturn=True,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise SettingError(
                f"Memory ran out with batch_size={batch_size}. Try a smaller one."
            ) from error
        if not (local or reachable):
            raise HubError(
                f"The data of {', '.join(tasks)} are not all on this machine, and the hub can't be "
                f"reached ({first_line(error)}). Connect to the network once (behind a proxy, set "
                f"HTTPS_PROXY). Tasks that need no network: {', '.join(LOCAL)}."
            ) from error
        raise


def _wrapped(model: LoadedModel, batch_size: int, special: bool | None, line: Any) -> Any:
    """The model as the harness wants it, counting on `line` instead of its own bars.

    `special` says whether the tokenizer adds its special tokens; None leaves it to the tokenizer.
    """
    from lm_eval.models.huggingface import HFLM

    class Asked(HFLM):
        """The harness's own class for transformers models; it only counts besides."""

        def _counted(self, name: str, requests: list[Any]) -> list[Any]:
            line.reset(total=max(len(requests), 1))
            done = getattr(super(), name)(requests, disable_tqdm=True)
            line.update(line.total - line.n)
            return done

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            return self._counted("loglikelihood", requests)

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            return self._counted("generate_until", requests)

        def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
            out = super()._model_call(inps, *args, **kwargs)
            line.update(len(inps))
            return out

        def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
            out = super()._model_generate(context, *args, **kwargs)
            line.update(len(context))
            return out

    return Asked(
        pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch_size,
        softmax_dtype="float32", add_bos_token=special,
    )  # fmt: skip


def _reachable(task: str) -> bool:
    """Whether the hub may be asked for data sets; said at once, not after its client's tries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        hub.check_reachable(task)
    except HubError:
        return False
    return True


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Let `datasets` use only what is on this machine, so that it fails or succeeds at once."""
    import datasets
    from huggingface_hub import constants

    places = (datasets.config, constants) if wanted else ()
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Silence the harness's log, but keep what it says about prompts that it cut."""
    notes: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "runcat" in record.getMessage():  # "Truncating …", "Left truncation applied"
                notes.append(record.getMessage())

    log = logging.getLogger("lm_eval")
    before = log.handlers[:], log.propagate, log.level
    log.handlers[:], log.propagate = [Kept()], False
    log.setLevel(logging.WARNING)
    try:
        yield notes
    finally:
        log.handlers[:], log.propagate = before[0], before[1]
        log.setLevel(before[2])


def _results(names: list[str], found: list[dict[str, Any]], notes: list[str]) -> HarnessResults:
    """The harness's results as a table, tasks in the order they were named, groups' parts after."""
    import pandas

    rows, samples = [], {}
    for results in found:
        samples |= results.get("samples", {})
        for task, numbers in results["results"].items():
            counted = results.get("n-samples", {}).get(task, {}).get("effective", math.nan)
            for key, value in numbers.items():
                metric, _, kept = key.partition(",")
                if not kept or metric.endswith("_stderr"):
                    continue
                error = numbers.get(f"{metric}_stderr,{kept}")
                error = float(error) if isinstance(error, int | float) else math.nan
                shown = metric if kept == "none" else f"{metric} ({kept})"
                rows.append((task, shown, float(value), error, counted))
    place = {name: number for number, name in enumerate(names)}
    rows.sort(key=lambda row: place.get(row[0], len(names)))
    return HarnessResults(pandas.DataFrame(rows, columns=list(COLUMNS)), samples, notes)


def _save(
    path: Path, model: LoadedModel, template: str, limit: int | None, results: HarnessResults
) -> None:
    from importlib.metadata import version

    rows = [
        {name: None if isinstance(value, float) and math.isnan(value) else value
         for name, value in row.items()} for row in results.table.to_dict("records")
    ]  # fmt: skip
    files.write_json(path, {
        "model": model.name, "template": template, "harness": f"lm-eval {version('lm_eval')}",
        "limit": limit, "results": rows, "notes": results.notes,
    })  # fmt: skip
