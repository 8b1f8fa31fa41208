"""`BasicModelRunner`: prompt a model in one line, train it in three.

The course's library sent each call to a service that is gone. Here a call is
`generation.generate`, a training is `finetuning.finetune`, and a name loads what it says.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import finetuning, generation, hosted, models, templates, tiers
from llmcourse.data import load_records
from llmcourse.errors import CourseError, DataError, SettingError, UserError, whole
from llmcourse.llama.settings import note, settings

if TYPE_CHECKING:
    from llmcourse_legacy import jobs

CHAT_GPT = ("chat-gpt", "chatgpt")  # whatever chat model a server has
PREFIX = "openai:"
# Names that a learner's template may have for the text.
TEXT = {"prompt", "question", "input", "user", "instruction"}

# Runners of one name share the model while any of them lives.
_loaded: weakref.WeakValueDictionary[str, models.LoadedModel] = weakref.WeakValueDictionary()


def load(name: Any) -> models.LoadedModel:
    """The model of a name.

    Raises:
        ModelNameError, UnavailableResourceError: see `llmcourse_legacy.substitutes.instead_of`,
            which under `settings.substitute` gives a packaged model.
    """
    try:
        path = Path(name).expanduser()
        if name.strip() and path.is_dir():
            name = str(path.resolve())  # a job is found from any folder
        found = _loaded[name] = _loaded.get(name) or models.load(name)
        return found
    except (CourseError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
        # Whatever was passed as a name (5, "", a name with a zero byte) ends in one kind of error.
        # The old interface is imported late, so that lessons never load its patches.
        from llmcourse_legacy import substitutes

        return substitutes.instead_of(name, error)


class BasicModelRunner:
    """A model: call it with a text or many, give it data and train it.

        model = BasicModelRunner("chat")
        model("Tell me about the planet Mars")

    The text itself is sent, as in the course: without a template, unless one is given or the model
    was trained here. So a chat model needs its tags, or a runner that adds them. A packaged chat
    model that substitutes for another reads that one's tags too, and continues a text without
    tags.

    Args:
        model_name: "base" or "chat", a packaged name, a folder, a hub name, the number of a job, a
            name of the course's, or a hosted model ("chat-gpt", "gpt-…", "openai:NAME"). A model
            that is loaded already, or tuned, may be given itself.
        system_prompt: Goes before each text.
        prompt_template: The text around each question, with a place for it such as {prompt} or
            {question} (see `TEXT`), and {system} where the system prompt belongs.
        api_key: For a hosted model; the environment's `OPENAI_API_KEY` if not given. A model that
            runs here needs none, and never sees it.
        api_url: Of an OpenAI-compatible server, for a hosted model.
        config: The old library's settings; a key of the service that is gone is not used.
        enable_peft: True trains an adapter (LoRA), False every weight.
        task_name: Not needed.
        local_cache_file: Not needed.

    Raises:
        ModelNameError, UnavailableResourceError: see `load`.
    """

    default_model = "EleutherAI/pythia-410m-deduped"
    keys = ("input", "output")  # the fields of a pair where a call names none

    def __init__(
        self,
        model_name: str | models.LoadedModel | None = None,
        system_prompt: str | None = None,
        prompt_template: str | None = None,
        api_key: str | None = None,
        api_url: str | None = None,
        config: Mapping[str, Any] | None = None,
        enable_peft: bool | None = None,
        task_name: str = "",
        local_cache_file: str | None = None,
    ) -> None:
        self.model_name: Any = self.default_model if model_name is None else model_name
        self.system_prompt, self.prompt_template = system_prompt, prompt_template
        self.enable_peft, self.task_name = enable_peft, task_name
        self.data: list[dict[str, str]] = []
        self.job_id: str | None = None
        self.evaluation: dict[str, Any] | None = None
        self._fill("a question", prompt_template)  # a wrong template fails here, not at the call
        if config:
            note("ignored", f"config={sorted(config)}: the service they are for is gone")
        if local_cache_file:
            note("ignored", "local_cache_file: answers are not kept on disk")
        self._server = hosted.Server.found(api_key or settings.api_key, api_url or settings.api_url)
        self._base: Any = None  # stays None where a server answers
        self._tuned: finetuning.TunedModel | None = None
        self._template = "plain"
        from llmcourse_legacy import jobs, substitutes

        if isinstance(model_name, models.LoadedModel):
            self._base, self.model_name = model_name, model_name.name
        elif jobs.is_job(self.model_name):
            self._restore(jobs.Job(str(self.model_name)))
        elif not self.is_hosted:
            self._base = load(self.model_name)
        elif not self._server or (self._hosted_name == "" and not settings.hosted):
            # A hosted chat model gets every text as a message, so its substitute does too.
            self._base = substitutes.for_hosted(str(self.model_name), self._server)
            self.model_name, self._template = self._base.name, "chat"
        if isinstance(self._base, finetuning.TunedModel):
            self._tuned = self._base

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"

    # --- answers ----------------------------------------------------------------------------------

    @property
    def is_hosted(self) -> bool:
        """Whether a server answers instead of this machine."""
        name = self.model_name.lower() if isinstance(self.model_name, str) else ""
        if name.startswith("gpt-"):  # but a learner may have called a folder so
            return not Path(self.model_name).is_dir()
        return name in CHAT_GPT or name.startswith(PREFIX)

    @property
    def _hosted_name(self) -> str:
        """The model's name at the server; "" for whichever chat model it has."""
        name = self.model_name[len(PREFIX) * self.model_name.lower().startswith(PREFIX) :]
        return "" if name.lower() in CHAT_GPT else name

    def __call__(
        self,
        inputs: str | Sequence[str],
        system_prompt: str | None = None,
        output_type: Any = None,
        max_tokens: int | None = None,
        *,
        max_new_tokens: int | None = None,
        prompt_template: str | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> Any:
        """Answer a text, or each of a list of texts, in input order.

        Args:
            inputs: The text or texts.
            system_prompt: Instead of the runner's own.
            output_type: {"answer": "str", "year": "int"}, to get a dict, or a `Type`, to get an
                object of that type; see `llmcourse_legacy.typed.filled`.
            max_tokens: Longest answer in tokens; the tier's if not given.
            max_new_tokens: The same by its later name.
            prompt_template: Instead of the runner's own.
            stop: Texts before which an answer ends.

        Returns:
            For a text, what the model wrote, without the prompt. For a list, a list of these, or
            under `settings.launch_shape` of {"input", "output"}.

        Raises:
            UserError: `inputs` is neither a text nor a list of texts.
            PromptError, SettingError, TemplateError: see `generation.generate`.
            APIError: see `hosted.ask`; or an answer does not hold what `output_type` asks for.
        """
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise UserError(f"inputs must be a text or a list of texts, not {inputs!r:.60}.")
        limit = max_tokens if max_new_tokens is None else max_new_tokens
        system = self.system_prompt if system_prompt is None else system_prompt
        template = self.prompt_template if prompt_template is None else prompt_template
        stops = [stop] if isinstance(stop, str) else list(stop or ())

        def ask(prompts: Sequence[str]) -> list[str]:
            answers = self._ask(list(prompts), system, template, limit) if prompts else []
            return [_cut(answer, stops) for answer in answers]

        outputs: list[Any]
        if output_type is None:
            outputs = ask(texts)
        else:
            from llmcourse_legacy import typed

            outputs = typed.filled(output_type, texts, ask)
        if isinstance(inputs, str):
            return outputs[0]
        if settings.launch_shape:
            return [{"input": a, "output": b} for a, b in zip(texts, outputs, strict=True)]
        return outputs

    call = __call__

    def _ask(
        self, texts: list[str], system: str | None, template: str | None, limit: int | None
    ) -> list[str]:
        """The model's answer to each text."""
        if self._base is None:
            name = self._hosted_name or settings.hosted
            prompts = [self._fill(text, template) for text in texts]
            return hosted.ask(prompts, name, self._server, system=system, max_new_tokens=limit)
        if template is not None:
            texts, system = [self._fill(text, template, system) for text in texts], None
        # A template of the learner's own is the whole prompt: no chat template goes around it.
        kind = "plain" if template is not None else self._kind()
        model = self._tuned or self._base
        shown: dict[str, Any] = {
            "system": system,
            "max_new_tokens": limit,
            "progress": len(texts) > 1,
        }
        if kind == "plain" and not self._tuned and getattr(model.tokenizer, "chat_template", None):
            from llmcourse_legacy import tags

            return tags.answers(model, texts, **shown)
        return [str(answer) for answer in generation.generate(model, texts, kind, **shown)]

    def _kind(self) -> str:
        """The template for a text where the learner gave none."""
        return self._trained_template() or self._template

    def _trained_template(self) -> str:
        """The template that the model was trained with, here or by the command; "" if it wasn't."""
        if self._tuned:
            return self._tuned.template
        # Only folders that `finetune` wrote have this file; others say nothing about a template.
        is_own = (Path(self._base.name) / models.FACTS).is_file()
        return self._base.template if is_own else ""

    @staticmethod
    def _fill(text: str, template: str | None, system: str | None = None) -> str:
        """The text in a learner's template; a system prompt without a place comes before it.

        Raises:
            UserError: the template has no place for the text, or one for something unknown.
        """
        if template is None:
            return text
        # Not `str.format`: braces in a learner's text or template must stay as they are.
        places = set(re.findall(r"\{(\w+)\}", str(template)))
        if not places & TEXT or places - TEXT - {"system"}:
            raise UserError(
                f"prompt_template={template!r:.80} needs a place for the text, one of "
                f"{', '.join(f'{{{name}}}' for name in sorted(TEXT))}, and may have {{system}}. "
                f"Nothing else is filled."
            )
        if system and "system" not in places:
            template = f"{{system}}\n\n{template}"
        return templates.fill(template, **dict.fromkeys(TEXT, text), system=system or "")

    # --- data -------------------------------------------------------------------------------------

    def load_data(
        self,
        data: Any,
        verbose: bool = False,
        input_key: str | None = None,
        output_key: str | None = None,
    ) -> None:
        """Add pairs to the data for `train`; each call adds more.

        Args:
            data: A list of dicts, a file, or a data frame; see `data.load_records`.
            verbose: True says how many there are.
            input_key: The question's field. Without it the fields are found: question and answer,
                instruction and response, input and output, or text alone.
            output_key: The answer's field.

        Raises:
            UserError: a record lacks a field or has a wrong one; nothing was added.
        """
        keys = (input_key or self.keys[0], output_key or self.keys[1])
        try:
            rows = self._records([data] if isinstance(data, dict) else data, keys)
        except (DataError, SettingError) as error:
            raise UserError(f"{error} (input_key={keys[0]!r}, output_key={keys[1]!r})") from None
        self._add(rows, verbose)

    def _records(self, source: Any, keys: tuple[str, str]) -> list[dict[str, str]]:
        """Records with question and answer, and with input where they have it, or with text."""
        # Where a call names no fields, the old library found them.
        schema = None if keys == BasicModelRunner.keys else "/".join(keys)
        found = load_records(source, schema=schema)
        wanted = ("question", "input", "answer") if "question" in found.column_names else ("text",)
        return [{name: row[name] for name in wanted if row.get(name)} for row in found]

    load_data_from_jsonlines = load_data_from_csv = load_data_from_dataframe = load_data

    def upload_file(
        self, file_path: str, input_key: str | None = None, output_key: str | None = None
    ) -> None:
        """`load_data` from a file; nothing is uploaded."""
        self.load_data(file_path, False, input_key, output_key)

    def clear_data(self) -> None:
        """Forget the data; the model stays as it is."""
        self.data = []

    def _add(self, rows: list[dict[str, str]], verbose: bool = False) -> None:
        self.data = [*self.data, *rows]
        if verbose:
            print(f"{len(rows)} records added, {len(self.data)} in all. The first: {rows[0]}")

    # --- training ---------------------------------------------------------------------------------

    def train(
        self,
        limit: int | None = 500,
        is_public: bool | None = False,
        finetune_args: Mapping[str, Any] | None = None,
        enable_peft: bool | None = None,
        peft_args: Mapping[str, Any] | None = None,
        verbose: bool = False,
        use_cached_model: bool = True,
    ) -> dict[str, Any]:
        """Train on the data, with progress; afterwards this object answers as the tuned model.

        A tenth of the records is held out for `evaluate`, where there are ten or more. The same
        call again, in another kernel too, resumes a training that was stopped and loads one that
        is finished.

        Args:
            limit: Most records to train on, the first ones; a note says how many are left out.
                None: all.
            is_public: Nothing is made public; a note says so where True.
            finetune_args: How to train: names of `finetuning.Config`, or transformers' own
                (`max_steps`, `num_train_epochs`, `per_device_train_batch_size`).
            enable_peft: True trains an adapter (LoRA), False every weight; the runner's own if not
                given.
            peft_args: Of the adapter: r, lora_alpha, lora_dropout.
            verbose: True prints the settings.
            use_cached_model: False trains again where such a training is there.

        Returns:
            The job's status; see `jobs.status`.

        Raises:
            UserError: there is no data, the model is hosted, or a setting is unknown.
            TrainingStopped: see `finetuning.finetune`.
        """
        from llmcourse_legacy import jobs

        job, config = self._job(finetune_args, is_public, limit, enable_peft, peft_args)
        if verbose:
            print(config)
        self._tuned = jobs.train(job, self._base, fresh=not use_cached_model)
        # From now on the number is the name, with which another kernel finds the model.
        self.job_id = self.model_name = job.id
        return jobs.status(job)

    train_and_wait = tune = tune_and_wait = train

    def _job(
        self,
        finetune_args: Mapping[str, Any] | None = None,
        is_public: bool | None = None,
        limit: int | None = 500,
        enable_peft: bool | None = None,
        peft_args: Mapping[str, Any] | None = None,
    ) -> tuple[jobs.Job, finetuning.Config]:
        """The job for these arguments, and how it is trained."""
        from llmcourse_legacy import jobs

        if self._base is None:
            raise UserError(f"{self.model_name} is on somebody's server and can't be trained here.")
        if not self.data:
            raise UserError("There is no data to train on. Call load_data first.")
        rows = self.data
        if limit is not None and len(rows) > whole("limit", limit, 1):
            left = f"{len(rows) - limit} of {len(rows)} records are left out"
            note("ignored", f"limit={limit}: {left}. limit=None takes all")
            rows = rows[:limit]
        if is_public:
            note("ignored", "is_public=True: the tuned model stays on this machine")
        peft = self.enable_peft if enable_peft is None else enable_peft
        template = "plain" if "text" in rows[0] else "qa"
        config = jobs.config_of(finetune_args, peft_args, peft, template)
        train, held_out = jobs.split(rows)
        return jobs.prepare(self._base.name, train, held_out, config), config

    def _restore(self, job: jobs.Job) -> None:
        """Become the tuned model of a job that is finished.

        Raises:
            UserError: it is not.
        """
        from llmcourse_legacy import jobs

        found = jobs.status(job)
        if found["status"] != "COMPLETED":
            how = "Wait for it" if found["status"] == "RUNNING" else "Train the same data again"
            raise UserError(f"Job {job.id} is {found['status']}. {how}, to have its model.")
        self._base, self.job_id = load(found["base_model"]), job.id
        self._tuned = finetuning.tuned.load(job.model, self._base)

    def evaluate(self) -> dict[str, Any]:
        """The answers of the tuned model and of its base to the held-out records.

        Returns:
            {"job_id", "eval_results": [{"input", "outputs": [{"model_name", "output"}, …]}]}, the
            tuned model's output first. The base gets the bare text, as before the training. At
            most the tier's number of records is evaluated; a note says so.

        Raises:
            UserError: nothing was trained.
        """
        from llmcourse_legacy import jobs

        if not self._tuned or not self.job_id:
            raise UserError("There is nothing to evaluate yet: call train first.")
        known, most = jobs.Job(self.job_id).known(), tiers.current().prompts
        kept = known["held_out"] or known["records"]
        if not known["held_out"]:
            note("ignored", "with so little data none is held out: these were trained on")
        if len(kept) > most:
            left = f"{len(kept) - most} of {len(kept)} records are not evaluated"
            note("ignored", f"{left}: this tier takes {most}")
        # A text without a question is evaluated on its second half.
        rows = [row if "question" in row else {"question": _half(row["text"])} for row in kept]
        results: list[dict[str, Any]] = [
            {"input": "\n".join(row[k] for k in ("question", "input") if row.get(k)), "outputs": []}
            for row in rows[:most]
        ]
        for name, model, template in (
            (self.job_id, self._tuned, None),
            (self._base.name, self._base, "plain"),
        ):
            answers = generation.generate(model, rows[:most], template)
            for result, answer in zip(results, answers, strict=True):
                result["outputs"].append({"model_name": name, "output": answer.text})
        self.evaluation = {"job_id": self.job_id, "eval_results": results}
        return self.evaluation

    get_eval_results = evaluate


def _half(text: str) -> str:
    """The first half of a text's words, for a model to continue."""
    words = text.split()
    return " ".join(words[: (len(words) + 1) // 2])


def _cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of `stops`."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)]
