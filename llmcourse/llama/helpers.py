"""What the course's notebooks import from a helper file that nobody got: `utilities`.

`from utilities import *` takes the names in `__all__`. Nothing here does a thing that the package
does elsewhere; it only has the notebooks' names and ways of calling it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers

from llmcourse import data, encoding, generation, models
from llmcourse.errors import CourseError, DataError, ModelNameError, UserError
from llmcourse.llama import names, sets, tuned
from llmcourse.llama.settings import note, settings

__all__ = ["Trainer", "inference", "model_name_to_id", "tokenize_and_split_data"]

TEST_SHARE, SEED = 0.1, 123  # of a file's records, as the course split them


def tokenize_and_split_data(training_config: Mapping[str, Any], tokenizer: Any) -> tuple[Any, Any]:
    """Questions and answers to what a model trains on, in two parts.

    See `sets.with_tokens` for the columns. A data set of the hub keeps its own splits "train" and
    "test"; any other is split 90 to 10, shuffled with the seed 123.

    Args:
        training_config: `{"model": {"max_length": 2048}, "datasets": {"use_hf": False, "path":
            "lamini_docs.jsonl"}}`. What else is in it is not needed here.
        tokenizer: Of the model to be trained.

    Returns:
        The training and the test records.

    Raises:
        UserError: a setting is missing, or means nothing.
        DataError: the records can't be read, or are too few to split.
    """
    longest = _setting(training_config, "model", "max_length")
    path = _setting(training_config, "datasets", "path")
    if training_config["datasets"].get("use_hf"):
        from datasets import load_dataset

        loaded = load_dataset(str(path))
        parts = loaded if "test" in loaded else _split(loaded[next(iter(loaded))], path)
    else:
        parts = _split(data.load_records(path), path)
    train, test = (_encoded(parts[name], tokenizer, longest, name) for name in ("train", "test"))
    return train, test


def _setting(config: Any, *names: str) -> Any:
    """`config[first][second]`.

    Raises:
        UserError: it is not there.
    """
    found = config
    for name in names:
        if not isinstance(found, Mapping) or found.get(name) is None:
            wanted = "".join(f"[{name!r}]" for name in names)
            raise UserError(f"training_config{wanted} is missing.")
        found = found[name]
    return found


def _split(records: Any, path: Any) -> Any:
    """The records in two parts.

    Raises:
        DataError: there are too few.
    """
    if len(records) < 2:
        raise DataError(f"{path} has {len(records)} record(s); to split off a test takes two.")
    return records.train_test_split(test_size=TEST_SHARE, shuffle=True, seed=SEED)


def _encoded(records: Any, tokenizer: Any, longest: Any, part: str) -> Any:
    if missing := {"question", "answer"} - set(records.column_names):
        there = ", ".join(records.column_names)
        raise DataError(f"The records have no column {min(missing)!r}. They have: {there}.")
    found, left_out = sets.with_tokens(records, tokenizer, longest)
    if left_out:
        note("ignored", f"{len(left_out)} record(s) of {part}: the question alone is too long")
    return found


class Trainer(transformers.Trainer):
    """transformers' Trainer that tells its pace.

    After training, `history` has a mapping for each logged step: `step`, `seconds` since the
    start, `seconds_a_step`, `seconds_left` (None where `total_steps` is not given) and
    `flops_a_second` (None where `model_flops` is not given).

    Args:
        model_flops: Floating-point operations of one optimiser step.
        total_steps: How many steps there will be.
        values: By place what transformers' Trainer took by place.
        given: Its other arguments.

    Raises:
        UserError: one of the two numbers is not above 0.
    """

    def __init__(
        self, *values: Any, model_flops: float | None = None, total_steps: int | None = None,
        **given: Any,
    ) -> None:  # fmt: skip
        for name, value in (("model_flops", model_flops), ("total_steps", total_steps)):
            if value is not None and not value > 0:
                raise UserError(f"{name}={value!r} must be a number above 0.")
        super().__init__(*values, **given)
        self.model_flops, self.total_steps = model_flops, total_steps
        self.history: list[dict[str, float | None]] = []
        self._begun: float | None = None
        self._from = 0  # the step that training goes on from
        if given.get("data_collator") is None and len(values) < 3:
            self._pad()

    def _pad(self) -> None:
        """Let rows of different lengths stand in one batch, where the model's tokenizer is known.

        transformers' own choice without a tokenizer can't do that.
        """
        columns = getattr(self.train_dataset, "column_names", None) or []
        name = getattr(self.model, "name_or_path", "")
        sizes = (self.args.per_device_train_batch_size, self.args.per_device_eval_batch_size)
        if max(sizes) > 1 and name and "labels" in columns and self.processing_class is None:
            try:
                self.data_collator = encoding.Collator(models.load_tokenizer(name))
            except CourseError:
                pass  # without one, rows of one length still go

    def training_step(self, *values: Any, **given: Any) -> Any:
        """One batch forward and backward; the first starts the clock."""
        if self._begun is None:
            self._begun, self._from = time.perf_counter(), self.state.global_step
        return super().training_step(*values, **given)

    def log(self, logs: dict[str, float], *values: Any, **given: Any) -> None:
        """What transformers logs; a step's loss with the pace so far."""
        if "loss" in logs and self._begun is not None:
            step, gone = self.state.global_step, time.perf_counter() - self._begun
            each = gone / (step - self._from)
            left = max(self.total_steps - step, 0) * each if self.total_steps else None
            flops = self.model_flops / each if self.model_flops else None
            self.history.append(
                {
                    "step": step, "seconds": gone, "seconds_a_step": each, "seconds_left": left,
                    "flops_a_second": flops,
                }
            )  # fmt: skip
        super().log(logs, *values, **given)


class _Hosted(Mapping[str, str]):
    """Names of models that were hosted for the course, each to be asked for by another name.

    The server and its models are gone. A look-up says so; under `settings.substitute` it gives the
    number of a job that was tuned here (`tuned.job`), with a note.
    """

    NAMES = (names.BIGGER,)

    def __getitem__(self, name: str) -> str:
        """The name to give to a runner.

        Raises:
            ModelNameError: the model is gone, or there never was one of this name.
        """
        if name not in self.NAMES:
            raise ModelNameError(
                f"model_name_to_id has no {name!r}. It has: {', '.join(self.NAMES)}."
            )
        if not settings.substitute:
            raise ModelNameError(
                f"{name}: this larger tuned model was on the course's own server, and is gone. "
                f"Train one: BasicModelRunner(…).train(). Or let the packaged base model, tuned "
                f"here, stand in: llama.install(substitute=True), or --substitute on the command "
                f"line."
            )
        return tuned.job(name).id

    def __iter__(self) -> Iterator[str]:
        return iter(self.NAMES)

    def __len__(self) -> int:
        return len(self.NAMES)

    def __repr__(self) -> str:
        return f"<models that were hosted: {', '.join(self.NAMES)}>"


model_name_to_id = _Hosted()


def inference(
    text: str, model: Any, tokenizer: Any, max_input_tokens: int = 1000,
    max_output_tokens: int = 100,
) -> str:  # fmt: skip
    """What a model writes after `text`, without `text` itself.

    Args:
        text: Goes to the model as it is.
        model: A transformers model.
        tokenizer: Its tokenizer.
        max_input_tokens: Of a longer text the end is cut off.
        max_output_tokens: The most tokens written.

    Raises:
        PromptError: the text is empty, or does not fit the model.
        SettingError: a number is below 1.
    """
    ids = tokenizer.encode(text, truncation=True, max_length=max_input_tokens)
    shortened = tokenizer.decode(ids, skip_special_tokens=True)
    loaded = models.LoadedModel(model, tokenizer, str(Path(model.name_or_path).name), "plain")
    asked = text if len(ids) < max_input_tokens else shortened
    answers = generation.generate(
        loaded, asked, max_new_tokens=max_output_tokens, progress=False
    )  # fmt: skip
    return answers[0].text
