"""What the course's notebooks import from a helper file that was never published: `utilities`.

`from utilities import *` imports the names in `__all__`. The work is done by the package; here are
only the notebooks' names and signatures for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers

from llmcourse import data, encoding, generation, models, templates
from llmcourse.errors import CourseError, DataError, ModelNameError, UserError
from llmcourse.llama.settings import note, settings
from llmcourse_legacy import jobs, names, sets, substitutes

__all__ = ["Trainer", "inference", "model_name_to_id", "tokenize_and_split_data"]
EVALUATED = 16  # test records that are evaluated where trainings are cut short


def tokenize_and_split_data(training_config: Mapping[str, Any], tokenizer: Any) -> tuple[Any, Any]:
    """Tokenize questions and answers, and split them into training and test records.

    See `sets.with_tokens` for the columns. A data set of the hub keeps its own splits "train" and
    "test"; any other is split 90 to 10, shuffled with the seed 123.

    Args:
        training_config: `{"model": {"max_length": 2048}, "datasets": {"use_hf": False, "path":
            "lamini_docs.jsonl"}}`. Its other parts are not needed here.
        tokenizer: Of the model to be trained.

    Returns:
        The training and the test records.

    Raises:
        UserError: a setting is missing.
        DataError: the records can't be read, are too few to split, or lack a column.
    """
    try:
        longest = training_config["model"]["max_length"]
        path = training_config["datasets"]["path"]
    except (KeyError, TypeError) as error:
        raise UserError(f"training_config lacks {error}: it needs both parts.") from None
    if training_config["datasets"].get("use_hf"):
        from datasets import load_dataset  # here, so that it is the adapted one

        parts = load_dataset(str(path))
    else:
        parts = {"train": data.load_records(path)}
    if "test" not in parts:
        records = parts[next(iter(parts))]
        if len(records) < 2:
            raise DataError(f"{path} has {len(records)} record(s); a test split needs two.")
        parts = records.train_test_split(test_size=jobs.TEST_SHARE, shuffle=True, seed=jobs.SEED)
    encoded = []
    for name in ("train", "test"):
        if missing := {"question", "answer"} - set(parts[name].column_names):
            there = ", ".join(parts[name].column_names)
            raise DataError(f"The records have no column {min(missing)!r}. They have: {there}.")
        found, left_out = sets.with_tokens(parts[name], tokenizer, longest)
        if left_out:
            note("ignored", f"{len(left_out)} record(s) of {name}: the question alone is too long")
        encoded.append(found)
    return encoded[0], encoded[1]


class Trainer(transformers.Trainer):
    """transformers' Trainer that reports its pace.

    After training, `history` has a mapping for each logged step: `step`, `seconds` since the
    start, `seconds_a_step`, `seconds_left` (None where `total_steps` is not given) and
    `flops_a_second` (None where `model_flops` is not given).

    Args:
        model_flops: Floating-point operations of one optimiser step.
        total_steps: How many steps there will be.
        values: transformers' own positional arguments.
        given: Its other arguments.
    """

    def __init__(
        self,
        *values: Any,
        model_flops: float | None = None,
        total_steps: int | None = None,
        **given: Any,
    ) -> None:
        super().__init__(*values, **given)
        self.model_flops, self.total_steps = model_flops, total_steps
        self.history: list[dict[str, float | None]] = []
        self._begun: float | None = None
        self._from = 0  # the step that training resumes from
        columns = getattr(self.train_dataset, "column_names", None) or []
        own_collator = given.get("data_collator") or len(values) > 2
        if "labels" in columns and self.processing_class is None and not own_collator:
            # Without a tokenizer, transformers chooses a collator for rows of equal length only.
            with suppress(CourseError):
                name = self.model.name_or_path
                self.data_collator = encoding.Collator(models.load_tokenizer(name))

    def training_step(self, *values: Any, **given: Any) -> Any:
        """One batch forward and backward; the first starts the clock."""
        if self._begun is None:  # not in __init__: loading the data is not training
            self._begun, self._from = time.perf_counter(), self.state.global_step
        return super().training_step(*values, **given)

    def evaluate(self, eval_dataset: Any = None, *values: Any, **given: Any) -> dict[str, float]:
        """The loss on the test records; on the first few where trainings are cut short."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if jobs.most_steps() and hasattr(rows, "select") and len(rows) > EVALUATED:
            more = len(rows) - EVALUATED
            note("ignored", f"{more} of {len(rows)} test records, as trainings are cut short")
            rows = rows.select(range(EVALUATED))
        return super().evaluate(rows, *values, **given)

    def log(self, logs: dict[str, float], *values: Any, **given: Any) -> None:
        """Log as transformers does, and note the pace with each loss."""
        if "loss" in logs and self._begun is not None:
            step, gone = self.state.global_step, time.perf_counter() - self._begun
            each = gone / (step - self._from)
            left = max(self.total_steps - step, 0) * each if self.total_steps else None
            flops = self.model_flops / each if self.model_flops else None
            pace = {"step": step, "seconds": gone, "seconds_a_step": each, "seconds_left": left}
            self.history.append({**pace, "flops_a_second": flops})
        super().log(logs, *values, **given)


class _Hosted(dict):
    """Names of models that were hosted for the course.

    The server and its models are gone. A look-up says so; under `settings.substitute` it returns
    the number of a job that was tuned here, with a note.
    """

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise ModelNameError(f"model_name_to_id has no {name!r}. It has: {', '.join(self)}.")
        if not settings.substitute:
            raise ModelNameError(
                f"{name}: this larger tuned model was on the course's own server, and is gone. "
                f"Train one: BasicModelRunner(…).train(). Or let the packaged base model, tuned "
                f"here, substitute for it: llama.install(substitute=True), or --substitute on the "
                f"command line."
            )
        return substitutes.tuned(name).id


model_name_to_id = _Hosted({names.BIGGER: ""})


def inference(
    text: str,
    model: Any,
    tokenizer: Any,
    max_input_tokens: int = 1000,
    max_output_tokens: int = 100,
) -> str:
    """A model's continuation of `text`, without `text` itself.

    Args:
        text: Sent to the model as it is.
        model: A transformers model.
        tokenizer: Its tokenizer.
        max_input_tokens: A longer text loses its end.
        max_output_tokens: The most new tokens.

    Raises:
        PromptError: the text is empty, or does not fit the model.
    """
    # Cut by tokens; the lab's own function cut the prompt from the answer by characters.
    # A control token that the text spells out stays text, as everywhere.
    ids = encoding.prompt_ids(templates.render(text, tokenizer=tokenizer), tokenizer)
    if len(ids) > max_input_tokens:
        text = tokenizer.decode(ids[:max_input_tokens], skip_special_tokens=True)
    loaded = models.LoadedModel(model, tokenizer, Path(model.name_or_path).name, "plain")
    (answer,) = generation.generate(loaded, text, max_new_tokens=max_output_tokens, progress=False)
    return answer.text
