"""The other runners of the course's library: each is a variant of `BasicModelRunner`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcourse.data import open_source
from llmcourse.errors import DataError, SettingError, UserError
from llmcourse.llama.runner import BasicModelRunner
from llmcourse_legacy import jobs


class _TaggedRunner(BasicModelRunner):
    """A chat model with its tags around each text: the model's own chat template where it has one.

    Pairs are read from "user" and "output", as the library did for these.
    """

    keys = ("user", "output")
    fallback = ""  # the template where the model has none of its own

    def _kind(self) -> str:
        if learned := self._trained_template():
            return learned
        if getattr(self._base.tokenizer, "chat_template", None):
            return "chat"
        if not self.fallback:
            raise UserError(
                f"{self.model_name} has no chat template, and {type(self).__name__} needs one. Use "
                f"BasicModelRunner, or a chat model."
            )
        return self.fallback


class LlamaV2Runner(_TaggedRunner):
    """Llama 2's chat models: `[INST] <<SYS>> … [/INST]`."""

    default_model = "meta-llama/Llama-2-7b-chat-hf"
    fallback = "llama2"


class LlamaV3Runner(_TaggedRunner):
    """Llama 3's chat models, in their own template."""

    default_model = "meta-llama/Meta-Llama-3-8B-Instruct"


class MistralRunner(_TaggedRunner):
    """Mistral's chat models, in their own template; the system prompt comes before the text."""

    default_model = "mistralai/Mistral-7B-Instruct-v0.2"

    def _ask(
        self, texts: list[str], system: str | None, template: str | None, limit: int | None
    ) -> list[str]:
        if system and template is None:
            texts, system = [f"{system}\n\n{text}" for text in texts], None
        return super()._ask(texts, system, template, limit)


class QuestionAnswerModel(BasicModelRunner):
    """Questions in, answers out."""

    default_model = "EleutherAI/pythia-410m"

    def get_answer(self, question: str) -> str:
        """The answer to a question."""
        return self(question)

    def get_answers(self, questions: Sequence[str]) -> list[dict[str, str]]:
        """The questions with their answers: [{"question", "answer"}], in input order."""
        if isinstance(questions, str):
            raise UserError("get_answers takes a list of questions; get_answer takes one.")
        answers = self(questions, output_type={"answer": "str"})
        answers = [one.get("output", one) for one in answers]  # under `settings.launch_shape`
        return [{"question": q, **a} for q, a in zip(questions, answers, strict=True)]

    def load_question_answer(self, data: Any) -> None:
        """Add pairs with "question" and "answer"; see `load_data`."""
        self.load_data(data, input_key="question", output_key="answer")

    load_question_answer_from_jsonlines = load_question_answer_from_csv = load_question_answer
    load_question_answer_from_dataframe = load_question_answer


class AutocompleteRunner(BasicModelRunner):
    """Continues a text; learns from texts, without questions."""

    default_model = "EleutherAI/pythia-410m"

    def load_data(  # type: ignore[override]
        self, data: Any, verbose: bool = False, keys: Sequence[str] | str | None = None
    ) -> None:
        """Add texts: a list of them, or fields of records, each field's text by itself.

        Args:
            data: A list of texts or of dicts, a file, or a data frame.
            verbose: True says how many there are.
            keys: The fields that are taken; all if not given.

        Raises:
            UserError: nothing can be read, or a field is missing or no text; nothing was added.
        """
        if isinstance(data, str) and not Path(data).suffix:  # a text, where a file's path is due
            raise UserError("load_data takes a list of texts, or a file's path.")
        if isinstance(data, list | tuple):
            data = [{"text": one} if isinstance(one, str) else one for one in data]
        wanted = [keys] if isinstance(keys, str) else keys
        found = []
        try:
            name, rows = open_source(data, "train")
            for line, row in rows:
                fields = row if isinstance(row, Mapping) else {}
                for key in wanted or fields or ["text"]:
                    text = fields.get(key)
                    if not isinstance(text, str) or not text.strip():
                        where = f"{name}, record {line}, field {key!r}"
                        raise UserError(f"{where}: not a text: {text!r:.60}.")
                    found.append({"text": text})
        except (DataError, SettingError) as error:
            raise UserError(str(error)) from None
        if not found:
            raise UserError(f"{name} holds no texts.")
        self._add(found, verbose)

    def load_data_from_jsonlines(
        self, file_path: Any, keys: Any = None, verbose: bool = False, *, columns: Any = None
    ) -> None:
        """The same from a file of JSON lines or a table; `columns` is another name of `keys`."""
        self.load_data(file_path, verbose, keys or columns)

    load_data_from_csv = load_data_from_dataframe = upload_file = load_data_from_jsonlines


class Lamini(BasicModelRunner):
    """The library's later name for all of it: `generate`, and trainings as jobs.

    Args:
        model_name: See `BasicModelRunner`, as for all others.
    """

    default_model = "meta-llama/Llama-2-7b-chat-hf"

    def __init__(
        self,
        model_name: str | None = None,
        api_key: str | None = None,
        api_url: str | None = None,
        local_cache_file: str | None = None,
        config: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        more |= {"api_key": api_key, "api_url": api_url, "local_cache_file": local_cache_file}
        super().__init__(model_name, config=config, **more)

    def generate(
        self,
        prompt: str | Sequence[str],
        model_name: str | None = None,
        output_type: Any = None,
        max_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        system_prompt: str | None = None,
    ) -> Any:
        """See `BasicModelRunner.__call__`; `model_name` names another model for this call.

        It gets the same server, system prompt and template.
        """
        runner = self
        if model_name not in (None, self.model_name):
            server = self._server
            runner = Lamini(model_name, server and server.key, server and server.base_url)
            runner.system_prompt, runner.prompt_template = self.system_prompt, self.prompt_template
        limits = {"max_tokens": max_tokens, "max_new_tokens": max_new_tokens}
        return runner(prompt, system_prompt, output_type, stop=stop, **limits)

    def tune(  # type: ignore[override]
        self, data_or_dataset_id: Any = None, finetune_args: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Start a training in a process of its own, and return at once; see `check_job_status`.

        It continues when this kernel ends. `train` does the same here, and waits.

        Args:
            data_or_dataset_id: Pairs, as for `load_data`, which replace those loaded before.
            finetune_args: See `train`, as for all others.

        Returns:
            The job's status; see `jobs.status`.
        """
        self._take(data_or_dataset_id)
        cached = more.pop("use_cached_model", True)
        job, _ = self._job(finetune_args, **more)
        if not cached:
            jobs.forget(job)
        self.job_id = job.id
        return jobs.start(job)

    def train(  # type: ignore[override]
        self, data_or_dataset_id: Any = None, finetune_args: Any = None, **more: Any
    ) -> dict[str, Any]:
        """`BasicModelRunner.train` with the arguments of `tune`."""
        self._take(data_or_dataset_id)
        return super().train(finetune_args=finetune_args, **more)

    train_and_wait = tune_and_wait = train

    def _take(self, data: Any) -> None:
        """Replace the data by these pairs; nothing changes where there are none, or wrong ones."""
        if data is not None:
            before = len(self.data)  # `load_data` adds, or raises and adds nothing
            self.load_data(data)
            self.data = self.data[before:]

    def get_jobs(self) -> list[dict[str, Any]]:
        """The status of every job on this machine, the newest last."""
        return jobs.statuses()

    def check_job_status(self, job_id: str | None = None) -> dict[str, Any]:
        """The status of a job; of the one started last here if not given."""
        return jobs.status(jobs.find(job_id or self.job_id))

    def cancel_job(self, job_id: str | None = None) -> dict[str, Any]:
        """Stop a job; what it has learned is kept, and the same training resumes from there."""
        return jobs.cancel(jobs.find(job_id or self.job_id))

    def cancel_all_jobs(self) -> list[dict[str, Any]]:
        """Stop every job that runs; the status of all."""
        for job in jobs.listed():
            if job.process():
                jobs.cancel(job)
        return jobs.statuses()

    def evaluate(self, job_id: str | None = None) -> dict[str, Any]:
        """See `BasicModelRunner.evaluate`; a finished job's model is loaded for it."""
        wanted = job_id or self.job_id
        if wanted and (not self._tuned or wanted != self.model_name):
            self._restore(jobs.find(wanted))
            self.model_name = wanted
        return super().evaluate()
