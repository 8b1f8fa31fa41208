"""`BasicModelRunner`: a model asked in one line, and trained in three.

The course's library sent each call to a service that is gone. Here a call is
`generation.generate`, a training is `finetuning.finetune`, and a model's name is what it says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcourse import finetuning, generation, hosted, models, templates, tiers
from llmcourse.errors import SettingError, UserError, whole
from llmcourse.llama import jobs, names, records, tags, training, types
from llmcourse.llama.loading import load
from llmcourse.llama.settings import note, settings

SHORTEST = 16  # tokens: a small chat model may end a text without tags after one


class BasicModelRunner:
    """A model: call it with a text, or with many; give it data and train it.

        model = BasicModelRunner("chat")
        model("Tell me about the planet Mars")

    What is sent is the text itself, as in the course: no template, unless one is given or the
    model was trained here. So a chat model needs its tags, or a runner that has them. A packaged
    chat model that substitutes for another reads that one's tags too (`tags`), and goes on with
    a text that has none.

    Args:
        model_name: A name of the course's, "base" or "chat", a packaged name, a folder, a hub name,
            the number of a job, or a hosted model ("chat-gpt", "gpt-…", "openai:NAME"). A model
            that is loaded already, or tuned, may stand here itself.
        system_prompt: What the model is told before each text.
        prompt_template: The text around each question, with one of {prompt}, {question}, {input}
            and {user} for it, and {system} where the system prompt belongs.
        api_key: For a hosted model; the environment's `OPENAI_API_KEY` if not given. A model that
            runs here needs none, and never sees it.
        api_url: Of an OpenAI-compatible server, for a hosted model.
        config: The old library's settings; a key of the gone service is not used for anything.
        enable_peft: True trains an adapter (LoRA), False every weight.
        task_name: Taken and not needed.
        local_cache_file: Taken and not needed; told where it is given.

    Raises:
        ModelNameError, UnavailableResourceError: see `loading.load`; a hosted model is asked at
            the call.
    """

    default_model = "EleutherAI/pythia-410m-deduped"

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
        self.model_name = self.default_model if model_name is None else model_name
        self.system_prompt, self.prompt_template = system_prompt, prompt_template
        self.enable_peft, self.task_name = enable_peft, task_name
        self.data: list[dict[str, str]] = []
        self.job_id: str | None = None
        self.evaluation: dict[str, Any] | None = None
        _text_or_none("system_prompt", system_prompt)
        self._filled("a question", prompt_template, None)  # a wrong template, told now
        if config:
            note("ignored", f"config={sorted(config)}: the service they are for is gone")
        if local_cache_file:
            note("ignored", "local_cache_file: answers are not kept on disk")
        self._server = hosted.Server.found(api_key or settings.api_key, api_url or settings.api_url)
        self.base_name, self._tuned = self.model_name, None
        self._substitutes = ""  # the model in whose place a packaged one answers
        self._as_chat = False  # a hosted chat model's substitute gets every text as a message
        if self.is_hosted:
            self._check_hosted()
            return
        if isinstance(model_name, models.LoadedModel):
            self._base = model_name
            self._tuned = model_name if isinstance(model_name, finetuning.TunedModel) else None
            self.base_name = self.model_name = model_name.name
        elif jobs.is_job(self.model_name):
            self._restore(jobs.find(self.model_name))
        else:
            self._base = load(self.model_name)
            known = (*models.ROLES, *models.PACKAGED)
            if self._base.name in models.PACKAGED and self.model_name not in known:
                self._substitutes = self.model_name
            self._tuned = self._base if isinstance(self._base, finetuning.TunedModel) else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"

    # --- asking -----------------------------------------------------------------------------------

    @property
    def is_hosted(self) -> bool:
        """Whether a server answers, and not this machine."""
        return isinstance(self.model_name, str) and names.is_hosted(self.model_name)

    def _check_hosted(self) -> None:
        """Say how to connect a hosted model where none is; or let the packaged one stand in."""
        if self._server is None and settings.substitute:
            twin = names.packaged(self.model_name)
            note("substituted", f"{self.model_name}: no server is named, so {twin}, a packaged "
                 f"model, answers")  # fmt: skip
            self.base_name = self.model_name = twin
            self._base, self._as_chat = load(twin), True
        elif self._server is None:
            raise UserError(
                f"{self.model_name} runs on somebody's server, and none is named. To connect one, "
                f"set OPENAI_API_KEY, or OPENAI_BASE_URL for another server that speaks the same "
                f"way, or give api_key= or api_url=. {names.runnable()}"
            )
        elif self.model_name.lower() in names.HOSTED and not settings.hosted:
            raise UserError(
                f"{self.model_name} stands for a server's chat model, and servers differ in what "
                f'they have. Name it: OPENAI_MODEL, or BasicModelRunner("{names.PREFIX}NAME").'
            )

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
            inputs: What to send.
            system_prompt: Instead of the runner's own.
            output_type: {"answer": "str", "year": "int"} or a `Type`: a dict, or an object of that
                type, comes back; see `types.filled`.
            max_tokens: Longest answer in tokens; the tier's if not given.
            max_new_tokens: The same by its later name.
            prompt_template: Instead of the runner's own.
            stop: Texts before which an answer ends.

        Returns:
            For a text, what the model wrote, without the prompt. For a list, a list of these, or
            under `settings.launch_shape` of {"input", "output"}.

        Raises:
            UserError: `inputs` or a setting is of another type.
            PromptError, TemplateError: see `generation.generate`.
            APIError: see `hosted.ask`; or an answer does not hold what `output_type` asks for.
        """
        alone = isinstance(inputs, str)
        asked = [inputs] if alone else self._texts(inputs)
        limit = max_tokens if max_new_tokens is None else max_new_tokens
        if limit is not None:
            _whole("max_tokens" if max_new_tokens is None else "max_new_tokens", limit)
        system = self.system_prompt if system_prompt is None else system_prompt
        _text_or_none("system_prompt", system)
        template = self.prompt_template if prompt_template is None else prompt_template
        stops = _stops(stop)

        def ask(texts: list[str]) -> list[str]:
            return self._ask(texts, system, template, limit, stops) if texts else []

        if output_type is None:
            outputs: list[Any] = ask(asked)
        else:
            outputs = self._typed(types.filled(types.wanted(output_type), asked, ask), output_type)
        if alone:
            return outputs[0]
        if settings.launch_shape:
            return [{"input": a, "output": b} for a, b in zip(asked, outputs, strict=True)]
        return outputs

    call = __call__

    @staticmethod
    def _typed(rows: list[dict[str, Any]], output_type: Any) -> list[Any]:
        return [output_type(**row) for row in rows] if isinstance(output_type, type) else rows

    @staticmethod
    def _texts(inputs: Any) -> list[str]:
        if isinstance(inputs, str | Mapping) or not isinstance(inputs, Sequence):
            raise UserError(f"A text or a list of texts is wanted, not {type(inputs).__name__}.")
        for number, one in enumerate(inputs, 1):
            if not isinstance(one, str):
                raise UserError(
                    f"Prompt {number} of {len(inputs)} must be text, not {type(one).__name__}."
                )
        return list(inputs)

    def _ask(
        self, texts: list[str], system: str | None, template: str | None, limit: int | None,
        stops: list[str],
    ) -> list[str]:  # fmt: skip
        """What is written to each text."""
        if self.is_hosted:
            own = self.model_name.lower().startswith(names.PREFIX)
            name = self.model_name[len(names.PREFIX) :] if own else self.model_name
            model = settings.hosted if name.lower() in names.HOSTED else name
            asked = texts if template is None else [self._filled(t, template, None) for t in texts]
            return hosted.ask(asked, model, self._server, system=system, max_new_tokens=limit,
                              stop=stops or None)  # fmt: skip
        if template is not None:
            texts, system = [self._filled(text, template, system) for text in texts], None
        kind = "plain" if template is not None else self._kind()
        bare = kind == "plain" and not self._tuned
        asked = [
            (tags.record(text, self._base, self._substitutes) if bare else None) or text
            for text in texts
        ]
        written: dict[int, str] = {}
        for tagged in (False, True):
            places = [place for place, one in enumerate(asked) if isinstance(one, dict) is tagged]
            answers = generation.generate(
                self._tuned or self._base,
                [asked[place] for place in places],
                "chat" if tagged else kind,
                system=system,
                max_new_tokens=limit,
                min_new_tokens=SHORTEST if bare and self._substitutes and not tagged else 0,
                progress=len(texts) > 1,
            )
            written |= {p: answer.text for p, answer in zip(places, answers, strict=True)}
        return [_cut(written[place], stops) for place in range(len(texts))]

    def _kind(self) -> str:
        """The template that a text is sent in where the learner gave none."""
        return self._learned() or ("chat" if self._as_chat else "plain")

    def _learned(self) -> str:
        """The template that the model was trained with, here or by the command; "" if it wasn't."""
        if self._tuned:
            return self._tuned.template
        folder = Path(self._base.name)
        return self._base.template if (folder / models.FACTS).is_file() else ""

    @staticmethod
    def _filled(text: str, template: str | None, system: str | None) -> str:
        """The text in a learner's template; the system prompt stands before it without a place.

        Raises:
            UserError: the template has no place for the text, or one for something unknown.
        """
        if template is None:
            return text
        if not isinstance(template, str):
            raise UserError(f"prompt_template={template!r} must be text with {{prompt}} in it.")
        places = set(re.findall(r"\{(\w+)\}", template))
        asked = {"prompt", "question", "input", "user", "instruction"}
        if unknown := places - asked - {"system"}:
            raise UserError(
                f"prompt_template has a place for {{{min(unknown)}}}, which nothing fills. There "
                f"are: {{system}}, and for the text {', '.join(f'{{{n}}}' for n in sorted(asked))}."
            )
        if not places & asked:
            raise UserError("prompt_template has no place for the text: write {prompt} into it.")
        if system and "system" not in places:
            template = f"{{system}}\n\n{template}"
        return templates.fill(template, **dict.fromkeys(asked, text), system=system or "")

    # --- data -------------------------------------------------------------------------------------

    def load_data(self, data: Any, verbose: bool = False, input_key: str = "input",
                  output_key: str = "output") -> None:  # fmt: skip
        """Add pairs to what `train` learns; each call adds more.

        Args:
            data: A list of dicts, a file, or a data frame; see `records.pairs`.
            verbose: True says how many there are.
            input_key: The question's field.
            output_key: The answer's field.

        Raises:
            UserError: a record lacks a field or has a wrong one; nothing was added.
        """
        self._add(records.pairs(data, input_key, output_key), verbose)

    def load_data_from_jsonlines(
        self, file_path: str, verbose: bool = False, input_key: str = "input",
        output_key: str = "output",
    ) -> None:  # fmt: skip
        """`load_data` from a file of JSON lines."""
        self.load_data(_path(file_path), verbose, input_key, output_key)

    def load_data_from_csv(self, file_path: str, verbose: bool = False, input_key: str = "input",
                           output_key: str = "output") -> None:  # fmt: skip
        """`load_data` from a table."""
        self.load_data(_path(file_path), verbose, input_key, output_key)

    def load_data_from_dataframe(self, df: Any, verbose: bool = False, input_key: str = "input",
                                 output_key: str = "output") -> None:  # fmt: skip
        """`load_data` from a pandas frame."""
        if not hasattr(df, "columns"):
            raise UserError(f"A data frame is wanted, not {type(df).__name__}.")
        self.load_data(df, verbose, input_key, output_key)

    def upload_data(self, data: Any, is_public: bool | None = None) -> None:
        """`load_data` by its later name; nothing is uploaded."""
        self.load_data(data)

    def upload_file(self, file_path: str, input_key: str = "input",
                    output_key: str = "output") -> None:  # fmt: skip
        """`load_data` from a file; nothing is uploaded."""
        self.load_data(_path(file_path), False, input_key, output_key)

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
        is_public: bool = False,
        finetune_args: Mapping[str, Any] | None = None,
        enable_peft: bool | None = None,
        peft_args: Mapping[str, Any] | None = None,
        verbose: bool = False,
        use_cached_model: bool = True,
    ) -> dict[str, Any]:
        """Train on the data, with progress; afterwards this object answers as the tuned model.

        A tenth of the records is kept apart for `evaluate`, where there are ten or more. The same
        call again, in another kernel too, goes on with a training that was stopped, and loads one
        that is finished.

        Args:
            limit: Most records to train on, the first ones; those left out are told. None: all.
            is_public: Nothing is made public; told where True.
            finetune_args: How to train: names of `finetuning.Config`, or transformers' own
                (`max_steps`, `num_train_epochs`, `per_device_train_batch_size`).
            enable_peft: True trains an adapter (LoRA), False every weight; the runner's own if not
                given.
            peft_args: Of the adapter: r, lora_alpha, lora_dropout.
            verbose: True prints the settings.
            use_cached_model: False trains anew where such a training is there.

        Returns:
            The job's status; see `jobs.status`.

        Raises:
            UserError: there is no data, the model is hosted, or a setting is unknown.
            TrainingStopped: see `finetuning.finetune`.
        """
        job, config = self._job(limit, is_public, finetune_args, enable_peft, peft_args)
        if verbose:
            print(config)
        self._tuned = jobs.train(job, self._base, fresh=not use_cached_model)
        self.job_id = self.model_name = job.id
        return jobs.status(job)

    train_and_wait = tune = tune_and_wait = train

    def _job(
        self, limit: int | None, is_public: bool | None, finetune_args: Mapping[str, Any] | None,
        enable_peft: bool | None, peft_args: Mapping[str, Any] | None,
    ) -> tuple[jobs.Job, finetuning.Config]:  # fmt: skip
        """The job that is meant, and how it is trained."""
        if self.is_hosted:
            raise UserError(f"{self.model_name} is on somebody's server and can't be trained here.")
        if not self.data:
            raise UserError("There is no data to train on. Call load_data first.")
        rows = self.data
        if limit is not None and len(rows) > _whole("limit", limit):
            note("ignored", f"limit={limit}: {len(rows) - limit} of {len(rows)} records are left "
                 f"out. limit=None takes all")  # fmt: skip
            rows = rows[:limit]
        if is_public:
            note("ignored", "is_public=True: the tuned model stays on this machine")
        peft = self.enable_peft if enable_peft is None else enable_peft
        try:
            config = training.config_of(finetune_args, peft_args, peft, self._trained_with(rows))
        except SettingError as error:
            raise UserError(str(error)) from None
        kept, test = training.apart(rows)
        return jobs.prepare(self._base.name, kept, test, config), config

    def _trained_with(self, rows: Sequence[Mapping[str, str]]) -> str:
        """The template that records are trained with."""
        return "plain" if "text" in rows[0] else "qa"

    def _restore(self, job: jobs.Job) -> None:
        """Be the tuned model of a job that is finished."""
        told = jobs.status(job)
        if told["status"] != "COMPLETED":
            how = "Wait for it" if told["status"] == "RUNNING" else "Train the same data again"
            raise UserError(f"Job {job.id} is {told['status']}. {how}, to have its model.")
        self._base = load(told["base_model"])
        self._tuned = finetuning.saving.load(job.model, self._base)
        self.base_name, self.job_id = told["base_model"], job.id

    def evaluate(self) -> dict[str, Any]:
        """What the tuned model and its base say to the records kept apart.

        Returns:
            {"job_id", "eval_results": [{"input", "outputs": [{"model_name", "output"}, …]}]}, the
            tuned model's output first. The base gets the bare text, as before the training. Of
            many records the tier's number of prompts is asked; those left out are told.

        Raises:
            UserError: nothing was trained.
        """
        if not self._tuned or not self.job_id:
            raise UserError("There is nothing to evaluate yet: call train first.")
        known = jobs.find(self.job_id).known()
        kept, most = known["held_out"] or known["records"], tiers.current().prompts
        rows = kept[:most]
        if not known["held_out"]:
            note("ignored", "with so little data none was kept apart: these were trained on")
        if len(kept) > most:
            note("ignored", f"{len(kept) - most} of {len(kept)} records are not asked: this tier "
                 f"evaluates {most}")  # fmt: skip
        given = [row if "question" in row else {"question": _half(row["text"])} for row in rows]
        asked = ["\n".join(row[name] for name in ("question", "input") if row.get(name))
                 for row in given]  # fmt: skip
        tuned, base = (
            [answer.text for answer in generation.generate(model, given, template)]
            for model, template in ((self._tuned, None), (self._base, "plain"))
        )
        pairs = (("tuned", tuned), ("base", base))
        title = {"tuned": self.job_id, "base": self._base.name}
        self.evaluation = {
            "job_id": self.job_id,
            "eval_results": [
                {"input": text, "outputs": [{"model_name": title[who], "output": texts[number]}
                                            for who, texts in pairs]}
                for number, text in enumerate(asked)
            ],
        }  # fmt: skip
        return self.evaluation

    get_eval_results = evaluate


def _whole(name: str, value: object) -> int:
    """`value` as a whole number of at least 1, or a UserError."""
    try:
        return whole(name, value, 1)
    except SettingError as error:
        raise UserError(str(error)) from None


def _text_or_none(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} must be text, not {type(value).__name__}.")


def _stops(stop: Any) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or ()
    if not isinstance(stops, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise UserError(f"stop={stop!r} must be a text that is not empty, or a list of them.")
    return list(stops)


def _path(given: Any) -> str:
    if not isinstance(given, str) and not hasattr(given, "__fspath__"):
        raise UserError(f"A file's path is wanted, not {type(given).__name__}.")
    return str(given)


def _half(text: str) -> str:
    """The first half of a text's words, for a model to go on with."""
    words = text.split()
    return " ".join(words[: math.ceil(len(words) / 2)])


def _cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of `stops`."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)]
