"""The other runners of the course's library: each is `BasicModelRunner` with a habit of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse.errors import UserError
from llmcourse.llama import jobs, records
from llmcourse.llama.runners import BasicModelRunner


class _TaggedRunner(BasicModelRunner):
    """A chat model with its tags around each text: the model's own chat template where it has one.

    Pairs are read from "user" and "output", as the library did for these.
    """

    fallback = ""  # the template where the model has none of its own

    def _kind(self) -> str:
        if learned := self._learned():
            return learned
        return "chat" if getattr(self._base.tokenizer, "chat_template", None) else self._pattern()

    def _pattern(self) -> str:
        if not self.fallback:
            raise UserError(
                f"{self.model_name} has no chat template, and {type(self).__name__} needs one. Use "
                f"BasicModelRunner, or a chat model."
            )
        return self.fallback

    def load_data(self, data: Any, verbose: bool = False, input_key: str = "user",
                  output_key: str = "output") -> None:  # fmt: skip
        """See `BasicModelRunner.load_data`."""
        super().load_data(data, verbose, input_key, output_key)

    def load_data_from_jsonlines(
        self, file_path: str, verbose: bool = False, input_key: str = "user",
        output_key: str = "output",
    ) -> None:  # fmt: skip
        """See `BasicModelRunner.load_data`."""
        super().load_data_from_jsonlines(file_path, verbose, input_key, output_key)

    def load_data_from_csv(self, file_path: str, verbose: bool = False, input_key: str = "user",
                           output_key: str = "output") -> None:  # fmt: skip
        """See `BasicModelRunner.load_data`."""
        super().load_data_from_csv(file_path, verbose, input_key, output_key)

    def load_data_from_dataframe(self, df: Any, verbose: bool = False, input_key: str = "user",
                                 output_key: str = "output") -> None:  # fmt: skip
        """See `BasicModelRunner.load_data`."""
        super().load_data_from_dataframe(df, verbose, input_key, output_key)

    def upload_file(self, file_path: str, input_key: str = "user",
                    output_key: str = "output") -> None:  # fmt: skip
        """See `BasicModelRunner.upload_file`."""
        super().upload_file(file_path, input_key, output_key)


class LlamaV2Runner(_TaggedRunner):
    """Llama 2's chat models: `[INST] <<SYS>> … [/INST]`."""

    default_model = "meta-llama/Llama-2-7b-chat-hf"
    fallback = "llama2"


class LlamaV3Runner(_TaggedRunner):
    """Llama 3's chat models, in their own template."""

    default_model = "meta-llama/Meta-Llama-3-8B-Instruct"


class MistralRunner(_TaggedRunner):
    """Mistral's chat models, in their own template; what the system says stands before the text."""

    default_model = "mistralai/Mistral-7B-Instruct-v0.2"

    def _ask(self, texts: list[str], system: str | None, template: str | None, limit: int | None,
             stops: list[str]) -> list[str]:  # fmt: skip
        if system and template is None:
            texts, system = [f"{system}\n\n{text}" for text in texts], None
        return super()._ask(texts, system, template, limit, stops)


class QuestionAnswerModel(BasicModelRunner):
    """Questions in, answers out."""

    default_model = "EleutherAI/pythia-410m"

    def get_answer(self, question: str) -> str:
        """The answer to a question."""
        if not isinstance(question, str):
            raise UserError(f"A question is wanted, not {type(question).__name__}.")
        return self(question)

    def get_answers(self, questions: Sequence[str]) -> list[dict[str, str]]:
        """The questions with their answers: [{"question", "answer"}], in input order."""
        asked = self._texts(questions)
        answers = self._ask(asked, self.system_prompt, self.prompt_template, None, [])
        return [{"question": q, "answer": a} for q, a in zip(asked, answers, strict=True)]

    def load_question_answer(self, data: Any) -> None:
        """Add pairs with "question" and "answer"; see `load_data`."""
        self.load_data(data, input_key="question", output_key="answer")

    def load_question_answer_from_jsonlines(self, file_path: str) -> None:
        """The same from a file of JSON lines."""
        self.load_data_from_jsonlines(file_path, input_key="question", output_key="answer")

    def load_question_answer_from_csv(self, file_path: str) -> None:
        """The same from a table."""
        self.load_data_from_csv(file_path, input_key="question", output_key="answer")

    def load_question_answer_from_dataframe(self, df: Any) -> None:
        """The same from a pandas frame."""
        self.load_data_from_dataframe(df, input_key="question", output_key="answer")


class AutocompleteRunner(BasicModelRunner):
    """Goes on with a text; learns from texts, without questions."""

    default_model = "EleutherAI/pythia-410m"

    def load_data(self, data: Any, verbose: bool = False,
                  keys: Sequence[str] | str | None = None) -> None:  # fmt: skip
        """Add texts: a list of them, or the fields of records; see `records.texts`."""
        self._add(records.texts(data, keys), verbose)

    def load_data_from_jsonlines(self, file_path: str, keys: Sequence[str] | str | None = None,
                                 verbose: bool = False) -> None:  # fmt: skip
        """The same from a file of JSON lines."""
        self.load_data(file_path, verbose, keys)

    def load_data_from_csv(self, file_path: str, columns: Sequence[str] | str | None = None,
                           verbose: bool = False) -> None:  # fmt: skip
        """The same from a table."""
        self.load_data(file_path, verbose, columns)

    def load_data_from_dataframe(self, df: Any, columns: Sequence[str] | str | None = None,
                                 verbose: bool = False) -> None:  # fmt: skip
        """The same from a pandas frame."""
        self.load_data(df, verbose, columns)

    def upload_file(self, file_path: str, keys: Sequence[str] | str | None = None) -> None:
        """The same from any file; nothing is uploaded."""
        self.load_data(file_path, False, keys)


class Lamini(BasicModelRunner):
    """The library's later name for all of it: `generate`, and trainings as jobs.

    Args:
        model_name: See `BasicModelRunner`, as for all others.
    """

    default_model = "meta-llama/Llama-2-7b-chat-hf"

    def __init__(
        self, model_name: str | None = None, api_key: str | None = None,
        api_url: str | None = None, local_cache_file: str | None = None,
        config: Mapping[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(model_name, api_key=api_key, api_url=api_url, config=config,
                         local_cache_file=local_cache_file, **more)  # fmt: skip

    def generate(
        self, prompt: str | Sequence[str], model_name: str | None = None, output_type: Any = None,
        max_tokens: int | None = None, max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = None, system_prompt: str | None = None,
    ) -> Any:  # fmt: skip
        """See `BasicModelRunner.__call__`; `model_name` asks another model, this once."""
        asked = self if model_name in (None, self.model_name) else self._like(model_name)
        return asked(prompt, system_prompt, output_type, max_tokens,
                     max_new_tokens=max_new_tokens, stop=stop)  # fmt: skip

    def _like(self, model_name: str) -> Lamini:
        """Another model, asked as this one is: the same server, system prompt and template."""
        server = self._server
        return Lamini(
            model_name, server and server.key, server and server.base_url,
            system_prompt=self.system_prompt, prompt_template=self.prompt_template,
        )  # fmt: skip

    def tune(
        self,
        data_or_dataset_id: Any = None,
        finetune_args: Mapping[str, Any] | None = None,
        is_public: bool | None = None,
        use_cached_model: bool = True,
        limit: int | None = None,
        enable_peft: bool | None = None,
        peft_args: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Begin a training in a process of its own, and return at once; see `check_job_status`.

        It goes on when this kernel ends. `train` does the same here, and waits.

        Args:
            data_or_dataset_id: Pairs, as for `load_data`, in the place of those loaded before;
                these if not given.
            finetune_args: See `train`, as for all others.

        Returns:
            The job's status; see `jobs.status`.
        """
        self._take(data_or_dataset_id)
        job, _ = self._job(limit, is_public, finetune_args, enable_peft, peft_args)
        if not use_cached_model:
            jobs.forget(job)
        self.job_id = job.id
        return jobs.start(job)

    def train(  # type: ignore[override]
        self,
        data_or_dataset_id: Any = None,
        finetune_args: Mapping[str, Any] | None = None,
        is_public: bool | None = None,
        use_cached_model: bool = True,
        limit: int | None = None,
        enable_peft: bool | None = None,
        peft_args: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> dict[str, Any]:
        """`BasicModelRunner.train` with the arguments of `tune`."""
        self._take(data_or_dataset_id)
        return super().train(limit, bool(is_public), finetune_args, enable_peft, peft_args, verbose,
                             use_cached_model)  # fmt: skip

    train_and_wait = tune_and_wait = train

    def _take(self, data: Any) -> None:
        """Have these pairs and no others; nothing changes where there are none, or wrong ones."""
        if data is not None:
            self.data = records.pairs(data)

    def get_jobs(self) -> list[dict[str, Any]]:
        """The status of every job on this machine, the newest last."""
        return jobs.statuses()

    def check_job_status(self, job_id: str | None = None) -> dict[str, Any]:
        """The status of a job; of the one begun last here if not given."""
        return jobs.status(jobs.find(job_id or self.job_id))

    def cancel_job(self, job_id: str | None = None) -> dict[str, Any]:
        """Stop a job; what it has learned is kept, and the same training goes on from there."""
        return jobs.cancel(jobs.find(job_id or self.job_id))

    def cancel_all_jobs(self) -> list[dict[str, Any]]:
        """Stop every job that runs; the status of all."""
        return jobs.cancel_all()

    def evaluate(self, job_id: str | None = None) -> dict[str, Any]:
        """See `BasicModelRunner.evaluate`; a finished job's model is loaded for it."""
        wanted = job_id or self.job_id
        if wanted and (not self._tuned or wanted != self.model_name):
            self._restore(jobs.find(wanted))
            self.model_name = wanted
        return super().evaluate()
