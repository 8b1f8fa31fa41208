"""Benchmarks with EleutherAI's lm-evaluation-harness, on models that `models.load` knows.

Any task of the harness runs by its name; its data set comes from the hub. Local tasks are made from
records and need no network: multiple choice where the records have `choices` (the likeliest is
taken), free answers that must contain the `keys` where they have those.

The course ran a script of the harness's repository, `main.py --model hf-causal --model_args
pretrained=… --tasks arc_easy`. Both are gone. The harness's own command is now

    lm-eval run --model hf --model_args pretrained=FOLDER --tasks arc_easy

(for an adapter `pretrained=BASE,peft=FOLDER`), and ours, which also takes the packaged models and
a tuned model's folder as it is:

    python -m llmcourse harness --model FOLDER --tasks arc_easy

Which template a model is asked with:

- Local tasks: the model's own, which a tuned model's folder remembers ("qa", "chat", …), as
  `generation.generate` does. So free answers have the figure that `evaluate` has. A model whose
  template is "plain" gets its choices as the harness's tasks put them, "Question: … Answer:".
- Public tasks: the harness's own prompts, as published figures of base models are measured. With
  `chat_template=True` they are wrapped in the model's chat template (`--apply_chat_template`).

The package is optional: `pip install "llmcourse[harness]"`.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import files, models, templates, tiers
from llmcourse.errors import HubError, SettingError, first_line, is_out_of_memory, whole
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel, hub
from llmcourse.progress import quiet_datasets
from llmcourse.words import has_keys

if TYPE_CHECKING:
    import pandas

PUBLIC = ("arc_easy", "arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2")
COLUMNS = ("task", "metric", "value", "stderr", "n")


@dataclass(frozen=True, eq=False)
class HarnessResults:
    """What the harness measured.

    Attributes:
        table: One row per task and metric: task, metric, value (for acc, acc_norm and facts a
            share from 0 to 1), stderr (the harness's standard error of it, NaN where it gives
            none), and n, the number of questions (NaN for a group of tasks where it gives none).
        samples: Task -> what the harness keeps of each question: the prompts, what the model wrote,
            and the metrics.
        notes: What the harness warned of and a reader should know, such as prompts that were cut.
    """

    table: pandas.DataFrame
    samples: dict[str, list[dict[str, Any]]] = field(repr=False)
    notes: list[str]

    def __str__(self) -> str:
        shown = self.table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return "\n".join([shown, *(f"note: {note}" for note in self.notes)])


def run(
    model: LoadedModel | Path | str,
    tasks: Sequence[str] | str,
    local: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    limit: int | None = None,
    batch_size: int | None = None,
    chat_template: bool = False,
    out: Path | str | None = None,
) -> HarnessResults:
    """Measure a model with the harness.

    Log-likelihoods are summed in float32, whatever the model computes in.

    Args:
        model: From `models.load`, or what that takes: a role, a packaged name, a folder with a
            model or an adapter, a hub name.
        tasks: Names in `local`, in `PUBLIC`, or of any other task of the harness.
        local: Name of a task -> its records: id, question, choices and answer (the right one's
            number, from 0) for multiple choice; id, question, answer and keys for free answers.
        limit: Take only the first so many questions of each task.
        batch_size: Texts the model reads at once; the tier's if not given.
        chat_template: Wrap the questions of public tasks in the model's chat template.
        out: A .json file that the table is written to.

    Raises:
        SettingError: the harness is not installed, a task is unknown, an option is out of range,
            the tokenizer closes every text, or memory ran out.
        HubError: the hub can't be reached, or HF_HUB_OFFLINE is set and a public task's data set
            is not on this machine.
        TemplateError: see `templates.render`.
        UnknownModel, CorruptModel, …: see `models.load`.
    """
    # Looked for, not imported: importing it takes seconds, and the errors below come first.
    if importlib.util.find_spec("lm_eval") is None:
        raise SettingError(
            'The evaluation harness is not installed. Install it: pip install "llmcourse[harness]" '
            "(in a copy of the course: pip install -r requirements-harness.txt)."
        )
    local, names = local or {}, [tasks] if isinstance(tasks, str) else list(tasks)
    limit = None if limit is None else whole("limit", limit, 1)
    size = whole("batch_size", tiers.current().batch_size if batch_size is None else batch_size, 1)
    own, public = ([n for n in names if (n in local) == here] for here in (True, False))
    with harness_log() as notes:
        # (listing the harness's own tasks takes seconds, so only where one is wanted)
        if unknown := set(public) - set(_index().all_tasks if public else ()):
            raise SettingError(
                f"There is no task {', '.join(unknown)!r}. On this machine: {', '.join(local)}. "
                f"From the hub, among others: {', '.join(PUBLIC)}; all of them: lm-eval ls tasks."
            )
        if isinstance(model, str | Path):
            model = models.load(str(model))
        check_loaded(model)
        template = model.template
        if public and chat_template:  # which the model may lack: checked before data are downloaded
            templates.render("Is there one?", "chat", tokenizer=model.tokenizer)
        results: list[dict[str, Any]] = []
        with quiet_datasets(long=True):
            if own:
                longest = tiers.current().new_tokens
                loaded = {n: _task(n, local[n][:limit], model, template, longest) for n in own}
                # A chat template's text holds its special tokens already.
                special = False if template == "chat" else None
                results.append(_evaluate(model, loaded, None, size, add_bos_token=special))
            if public:
                results.append(_public(model, public, limit, size, chat_template))
    if notes:
        cut = f"{len(notes)} times the harness cut a prompt on the left to fit the model's context"
        notes = [f"{cut}, as here: {notes[0]}"]
    measured = _results(names, results, notes)
    if out is not None:
        table = measured.table
        saved = {
            "model": model.name,
            "template": template,
            "harness": f"lm-eval {metadata.version('lm_eval')}",
            "limit": limit,
            # JSON knows no NaN, which a task without a standard error has.
            "results": table.astype(object).where(table.notna(), None).to_dict("records"),
            "notes": notes,
        }
        files.write_json(Path(out), saved)
    return measured


def _task(
    name: str,
    records: Sequence[Mapping[str, Any]],
    model: LoadedModel,
    template: str,
    max_new_tokens: int,
) -> Any:
    """A task of the harness with the prompts as the model reads them."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    choices = "choices" in records[0]
    as_published = choices and template == "plain"  # as the harness's own multiple choice

    def prompt(record: Mapping[str, Any]) -> str:
        if as_published:
            return f"Question: {record['question']}\nAnswer:"
        return templates.render(record["question"], template, tokenizer=model.tokenizer).prompt

    rows = [{**record, "prompt": prompt(record)} for record in records]
    config = {
        "task": name,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in (("acc", "acc_norm") if choices else ("facts",))
        ],
    }
    if choices:
        config |= {"output_type": "multiple_choice", "doc_to_choice": "choices"}
        config["target_delimiter"] = " " if as_published else ""
    else:
        # No stop text: our answers end by the end token or the limit, as in `generate`.
        config |= {"output_type": "generate_until", "process_results": _facts}
        generation = {"until": [], "do_sample": False, "max_gen_toks": max_new_tokens}
        config["generation_kwargs"] = generation
    return ConfigurableTask(config=config)


def _facts(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """How the harness scores a free answer: 1 where it has every key of the fact."""
    return {"facts": float(has_keys(results[0], doc["keys"]))}


def _public(
    model: LoadedModel, names: list[str], limit: int | None, size: int, chat_template: bool
) -> dict[str, Any]:
    """The results of the harness's own tasks, whose data come from the hub or its cache."""
    from huggingface_hub import constants

    try:
        hub.check_reachable(names[0])  # fails at once, where the hub's client would try for long
        loaded = _index().load(names)
        for task in loaded["tasks"].values():
            _prepare(task)
        return _evaluate(model, loaded, limit, size, chat_template)
    except SettingError:
        raise
    except Exception as error:  # of the harness, of datasets or of the hub's client
        if not constants.HF_HUB_OFFLINE and not isinstance(error, HubError):
            raise
        raise HubError(
            f"The data of {', '.join(names)} can't be loaded ({first_line(error)}). Connect to the "
            f"network (behind a proxy, set HTTPS_PROXY); or, where all of them are on this machine "
            f"already, set HF_HUB_OFFLINE=1."
        ) from error


def _evaluate(
    model: LoadedModel,
    tasks: Any,
    limit: int | None,
    size: int,
    chat_template: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """The harness's results."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    _require_open_end(model)
    # The harness sums log-likelihoods in the model's type otherwise; bfloat16 has three digits.
    settings |= {"batch_size": size, "softmax_dtype": "float32"}
    reader = HFLM(pretrained=model.model, tokenizer=model.tokenizer, **settings)
    try:
        # Not `simple_evaluate`, which also describes this machine, calls git and the hub, and sets
        # the seeds of Python, NumPy and torch.
        return evaluate(
            reader, tasks, limit=limit, apply_chat_template=chat_template, fewshot_as_multiturn=True
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise SettingError(f"Memory ran out with batch_size={size}. Try a smaller one.") from error


def _results(names: list[str], every: list[dict[str, Any]], notes: list[str]) -> HarnessResults:
    """The harness's results as a table, tasks in the order they were named, groups' parts after."""
    import pandas

    rows: list[tuple[Any, ...]] = []
    samples: dict[str, list[dict[str, Any]]] = {}
    for results in every:
        samples |= results.get("samples", {})
        for task, numbers in results["results"].items():
            n = results.get("n-samples", {}).get(task, {}).get("effective", math.nan)
            for key, value in numbers.items():
                metric, _, kept = key.partition(",")  # "acc,none": the metric and its filter
                if not kept or metric.endswith("_stderr"):
                    continue
                error = numbers.get(f"{metric}_stderr,{kept}")
                error = float(error) if isinstance(error, int | float) else math.nan  # or "N/A"
                shown = metric if kept == "none" else f"{metric} ({kept})"
                rows.append((task, shown, float(value), error, n))
    rows.sort(key=lambda row: names.index(row[0]) if row[0] in names else len(names))
    return HarnessResults(pandas.DataFrame(rows, columns=list(COLUMNS)), samples, notes)


# --- what lm-eval has no public way for -----------------------------------------------------------
# Written for lm-eval 0.4.13. `test_harness.py` runs each of these against the installed version.


@functools.cache
def _index() -> Any:
    """The harness's own tasks, thousands of files; it takes seconds, so it is done once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _prepare(task: Any) -> None:
    """Prepare a public task as lm-eval's `simple_evaluate` does, which we don't call.

    Its examples in the prompt are drawn with a fixed seed; a task that names no number has none.
    """
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=1234)


def _require_open_end(model: LoadedModel) -> None:
    """Refuse a tokenizer that ends every text: the harness would measure what follows the end.

    Raises:
        SettingError: it does.
    """
    ids = model.tokenizer("a").input_ids
    if len(ids) > 1 and ids[-1] == model.tokenizer.eos_token_id:
        raise SettingError(
            f"The tokenizer of {model.title} closes every text with its end token, after which the "
            f"harness can't go on. Set tokenizer.add_eos_token = False."
        )


@contextmanager
def harness_log() -> Iterator[list[str]]:
    """Silence the harness's log, but keep what it says about prompts that it cut.

    Its messages, "Truncating 9 tokens from the left" and "Left truncation applied", are the only
    sign of a cut prompt.
    """
    notes: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "runcat" in record.getMessage():
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
