"""Asking a model many things at once, and getting back only what it wrote.

Prompts are sorted by length, padded on the left and answered in batches: on a CPU the time of
a step is mostly spent reading the weights, so sixteen answers cost little more than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, templates, tiers
from llmcourse.errors import CourseError, PromptError, SettingError, is_out_of_memory, whole
from llmcourse.models import LoadedModel, require_finite
from llmcourse.progress import bar

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answer:
    """What a model wrote to one prompt; `str(answer)` is the text.

    Attributes:
        prompt: What was asked, as given.
        sent: What the model read: the prompt in its template.
        text: What it wrote, without the prompt and without special tokens.
        finished: True where the model ended by itself, False where the limit cut it off.
        prompt_tokens: Tokens read.
        new_tokens: Tokens written, the end-of-sequence token included.
        seconds: Its share of the batch's time: the batch's seconds over its prompts.
    """

    prompt: str
    sent: str
    text: str
    finished: bool
    prompt_tokens: int
    new_tokens: int
    seconds: float

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Job:
    """One prompt on its way: its place in the input, its text and its token ids."""

    place: int
    prompt: str
    sent: str
    ids: list[int]


def generate(
    model: LoadedModel,
    prompts: str | templates.Record | Iterable[str | templates.Record],
    template: str | None = None,
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
    min_new_tokens: int = 0,
    batch_size: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = True,
    failures: dict[int, str] | None = None,
) -> list[Answer]:
    """Answer every prompt, in input order.

    Args:
        model: From `models.load`.
        prompts: A question or record (see `templates.render`), or any number of them.
        template: Name in `templates.NAMES`; the model's own (`model.template`) if not given.
            "plain" sends the text as it is.
        system: What the model is told before each question.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        min_new_tokens: No answer ends before it has so many tokens.
        batch_size: Prompts answered at once; the tier's if not given. A batch that does not
            fit into memory is halved, down to one prompt.
        temperature: 0 takes the likeliest token each time, so that the same question gets
            the same answer; from 0.01 to 100 tokens are drawn at random.
        seed: For the random draws.
        progress: False shows no progress.
        failures: Where given, a prompt that can't be answered raises no error: its number, from 0,
            and what is wrong with it go in here, and its answer is None.

    Returns:
        One `Answer` per prompt.

    Raises:
        PromptError: a prompt is empty, or prompt and answer do not fit the model's context.
        TemplateError: see `templates.render`.
        SettingError: `max_new_tokens`, `batch_size` or `temperature` is out of range, or `model`
            is none.
        NotFinite: the model's logits are NaN or infinite.
    """
    limit = _limit(model, max_new_tokens, temperature)
    shortest = min(whole("min_new_tokens", min_new_tokens, 0), limit)
    size = tiers.current().batch_size if batch_size is None else whole("batch_size", batch_size, 1)
    asked, name = _as_list(prompts), template or model.template
    jobs = []
    for place, item in enumerate(asked):  # all of them before any time is spent
        try:
            jobs.append(_prepare(model, place, item, name, system, limit))
        except CourseError as error:
            if failures is None:
                raise type(error)(f"Prompt {place + 1} of {len(asked)}: {error}") from error
            failures[place] = str(error)
    jobs.sort(key=lambda job: len(job.ids))
    answers: dict[int, Answer] = {}
    count = -(-len(jobs) // size)
    told = f"{model.title} answers {len(jobs)} prompt{'s' * (len(jobs) != 1)}"
    with bar(count * limit, told, enabled=progress and bool(jobs)) as line:
        for number in range(count):
            batch = jobs[number * size : (number + 1) * size]
            run = partial(
                _answer,
                model,
                limits=(shortest, limit),
                temperature=temperature,
                seed=seed + number,
                line=line,
            )
            done = halved(run, batch, line.write)
            answers |= {job.place: answer for job, answer in zip(batch, done, strict=True)}
            line.update((number + 1) * limit - line.n)
        written = sum(answer.new_tokens for answer in answers.values())
        line.set_postfix_str(f"{written} tokens", refresh=False)
    # Without `failures` there is an answer to each, which the type promises.
    return [answers.get(place) for place in range(len(asked))]  # type: ignore[misc]


def stream(
    model: LoadedModel,
    prompt: str,
    template: str | None = None,
    *,
    more: Callable[[str], bool],
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Answer:
    """Answer one prompt and hand on the text as it grows; may run in a thread of its own.

    At temperature 0 the answer is that of `generate`. Above it, each token is drawn by a generator
    of this call alone: what else draws at random meanwhile, such as a training, is left as it is.

    Args:
        model: From `models.load`.
        prompt: A question.
        template: Name in `templates.NAMES`; the model's own if not given.
        more: Called after each token with the complete text so far, without a character that is
            not complete yet; says whether to go on.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        temperature: 0, or from 0.01 to 100; see `generate`.
        seed: For the random draws.

    Returns:
        The answer; `finished` is False where the limit or `more` ended it.

    Raises:
        PromptError, TemplateError, SettingError, NotFinite: see `generate`.
    """
    import torch

    limit = _limit(model, max_new_tokens, temperature)
    job = _prepare(model, 0, prompt, template or model.template, None, limit)
    ends, start = end_tokens(model), time.perf_counter()

    def hand_on(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Tell the text so far; True ends the answer, (1,)."""
        text = _cut(model, job, ids[0, len(job.ids) :].tolist(), ends).text.rstrip("\ufffd")
        return torch.tensor([not more(text)], device=ids.device)

    processors = [_Drawing(temperature, seed)] if temperature else []
    [answer] = _run(model, [job], (0, limit), hand_on, processors)
    return replace(answer, seconds=time.perf_counter() - start)


class _Drawing:
    """Draws each token with random numbers of its own, from the 50 likeliest as transformers does.

    `generate` can't be given a generator, and torch's global one belongs to a training that may
    run at the same time.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        import torch

        self.temperature, self.rng = temperature, torch.Generator().manual_seed(seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` (1, vocabulary) with minus infinity for every token but the one drawn."""
        import torch

        best = scores.topk(min(50, scores.shape[-1]))
        probs = torch.softmax(best.values.float() / self.temperature, -1).cpu()
        index = torch.multinomial(probs, 1, generator=self.rng).to(scores.device)
        left = torch.full_like(scores, float("-inf"))
        return left.scatter(1, best.indices.gather(1, index), 0.0)


def _limit(model: LoadedModel, max_new_tokens: int | None, temperature: float) -> int:
    """The longest answer in tokens.

    Raises:
        SettingError: it or the temperature is out of range, or `model` is none.
    """
    check_loaded(model)
    if temperature != 0 and not (
        isinstance(temperature, int | float) and 0.01 <= temperature < 100
    ):
        raise SettingError(f"temperature={temperature!r} must be 0, or from 0.01 to 100.")
    wished = tiers.current().new_tokens if max_new_tokens is None else max_new_tokens
    return whole("max_new_tokens", wished, 1)


def check_loaded(model: object) -> None:
    """Raise a SettingError unless `model` is a loaded one."""
    if isinstance(model, str):
        raise SettingError(f"model={model!r}: load the model first, with models.load({model!r}).")
    if not isinstance(model, LoadedModel):
        raise SettingError(
            f"model is of type {type(model).__name__}; what models.load(…) gives is wanted."
        )


def fits(
    model: LoadedModel,
    prompt: str | templates.Record,
    template: str | None = None,
    *,
    max_new_tokens: int,
) -> bool:
    """Whether `generate` takes `prompt`: it is text, and there is room for it and its answer.

    Args:
        model: From `models.load`.
        prompt: A question or record.
        template: Name in `templates.NAMES`; the model's own if not given.
        max_new_tokens: Longest answer in tokens.

    Raises:
        TemplateError: see `templates.render`.
    """
    return not trouble(model, prompt, template, max_new_tokens=max_new_tokens)


def trouble(
    model: LoadedModel,
    prompt: str | templates.Record,
    template: str | None = None,
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
) -> str:
    """Why `generate` would not take `prompt`, in words; "" if it would.

    Args:
        model: From `models.load`.
        prompt: A question or record.
        template: Name in `templates.NAMES`; the model's own if not given.
        system: What the model is told before the question.
        max_new_tokens: Longest answer in tokens; the tier's if not given.

    Raises:
        TemplateError: see `templates.render`.
        SettingError: `max_new_tokens` is out of range.
    """
    wished = tiers.current().new_tokens if max_new_tokens is None else max_new_tokens
    limit = whole("max_new_tokens", wished, 1)
    try:
        _prepare(model, 0, prompt, template or model.template, system, limit)
    except PromptError as error:
        return str(error)
    return ""


def _as_list(prompts: Any) -> list[Any]:
    """One question, one record, or any number of either, as a list."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if hasattr(prompts, "columns"):
        raise PromptError('Pass a data frame as records: frame.to_dict("records").')
    try:
        return list(prompts)
    except TypeError as error:
        raise PromptError(
            f"A question or a list of questions is wanted, not {type(prompts).__name__}."
        ) from error


def _prepare(
    model: LoadedModel, place: int, item: Any, template: str, system: str | None, limit: int
) -> _Job:
    """Render and tokenize a prompt, or say what is wrong with it."""
    rendered = templates.render(item, template, tokenizer=model.tokenizer, system=system)
    ids = prompt_ids(model, rendered, "The prompt")
    room = model.context_length - limit
    if len(ids) > room:
        raise PromptError(
            f"The prompt has {len(ids)} tokens, but {model.title} reads and writes "
            f"{model.context_length} tokens in all, and {limit} are kept for the answer. Shorten "
            f"the prompt by {len(ids) - room} tokens or lower max_new_tokens."
        )
    question = item if isinstance(item, str) else templates.get_field(item, "question")
    return _Job(place, question, rendered.prompt.replace(templates.INSIDE, ""), ids)


def prompt_ids(model: LoadedModel, rendered: templates.Rendered, here: str) -> list[int]:
    """A prompt's token ids, as the model reads them.

    Args:
        model: From `models.load`.
        rendered: From `templates.render`.
        here: What messages call the prompt.

    Raises:
        PromptError: it has characters that are no text, or tokens that the model does not know.
        TemplateError: see `encoding.prompt_ids`.
    """
    try:
        ids = encoding.prompt_ids(rendered, model.tokenizer)
    except TypeError as error:  # half a character, from a terminal of another encoding
        raise PromptError(f"{here} has characters that are no text. Type it again.") from error
    if ids and max(ids) >= model.model.get_input_embeddings().num_embeddings:
        raise PromptError(
            f"{here} has tokens that {model.title} does not know: its tokenizer belongs to "
            f"another model."
        )
    return ids


def halved(run: Callable[[Any], Any], batch: list[Any], say: Callable[[str], Any] = print) -> Any:
    """`run(batch)`, or its results for one half after the other where memory runs out.

    Args:
        run: Takes a list and returns a list.
        batch: The list.
        say: Called with a message where the batch is halved.

    Raises:
        PromptError: memory is too small for one prompt alone.
    """
    import torch

    try:
        return run(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise PromptError(
                "This machine's memory is too small for one prompt of this length. Shorten it, or "
                "choose a smaller model."
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    say(f"Out of memory with {len(batch)} prompts at once: going on with {half}.")
    return [*halved(run, batch[:half], say), *halved(run, batch[half:], say)]


def _answer(
    model: LoadedModel,
    batch: list[_Job],
    limits: tuple[int, int],
    temperature: float,
    seed: int,
    line: Any,
) -> list[Answer]:
    """The answers to one batch, each with its share of the seconds."""
    import torch

    def tick(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Move the bar on at each token; stops nothing, so all False, (prompts,)."""
        line.update()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    start = time.perf_counter()
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature} if temperature else {}
    )
    with torch.random.fork_rng(enabled=bool(temperature)):
        if temperature:
            torch.manual_seed(seed)
        written = _run(model, batch, limits, tick, **sampling)
    seconds = (time.perf_counter() - start) / len(batch)
    return [replace(answer, seconds=seconds) for answer in written]


def _run(
    model: LoadedModel,
    batch: list[_Job],
    limits: tuple[int, int],
    tick: Callable[..., torch.Tensor],
    processors: Iterable[Any] = (),
    **sampling: Any,
) -> list[Answer]:
    """The answers to one batch, in one go; ids and mask are (prompts, longest prompt), int64.

    Raises:
        PromptError: memory runs out on a single prompt.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    width = max(len(job.ids) for job in batch)
    pad = model.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(job.ids)) + job.ids for job in batch])
    mask = torch.tensor([[0] * (width - len(job.ids)) + [1] * len(job.ids) for job in batch])
    ends = end_tokens(model)
    config = GenerationConfig(
        min_new_tokens=limits[0],
        max_new_tokens=limits[1],
        eos_token_id=sorted(ends),
        pad_token_id=pad,
        use_cache=True,  # a model that was trained may have it turned off
        **sampling,
    )
    try:
        with torch.inference_mode(), reading(model):
            out = model.model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([tick]),
            )
    except (RuntimeError, MemoryError) as error:
        if len(batch) > 1 or not is_out_of_memory(error):
            raise
        raise PromptError(
            f"This machine's memory is too small for one prompt of {width} tokens. Shorten it, or "
            f"choose a smaller model."
        ) from error
    return [
        _cut(model, job, row, ends) for job, row in zip(batch, out[:, width:].tolist(), strict=True)
    ]


@contextmanager
def reading(model: LoadedModel) -> Iterator[None]:
    """A model ready to answer inside the block: no dropout, a fast adapter.

    Its language-model head is handed the states in one piece. Those of the prompts' last tokens lie
    apart in memory, and for a head with frozen weights torch then takes a path on the CPU that is
    200 times as slow and needs gigabytes (2.13).

    Raises:
        NotFinite: the logits of a next token are NaN or infinite; `generate` would answer "".
    """
    from llmcourse.models.lora import fast_adapters

    was_training, head = model.model.training, model.model.get_output_embeddings()
    hooks = (
        head.register_forward_pre_hook(lambda _, states: (states[0].contiguous(),)),
        head.register_forward_hook(
            lambda _, __, logits: require_finite(logits[..., -1, :], model.model)
        ),
    )
    model.model.eval()
    try:
        with fast_adapters(model.model):
            yield
    finally:
        model.model.train(was_training)
        for hook in hooks:
            hook.remove()


def _cut(model: LoadedModel, job: _Job, row: list[int], ends: set[int]) -> Answer:
    """Keep `row` up to its first end token; what follows is padding."""
    stop = next((place for place, token in enumerate(row) if token in ends), None)
    written = row if stop is None else row[:stop]
    return Answer(
        prompt=job.prompt,
        sent=job.sent,
        text=model.tokenizer.decode(written, skip_special_tokens=True),
        finished=stop is not None,
        prompt_tokens=len(job.ids),
        new_tokens=len(row) if stop is None else stop + 1,
        seconds=0.0,
    )


def end_tokens(model: LoadedModel) -> set[int]:
    """Ids that end an answer: the tokenizer's end-of-sequence token, the model's own list, and
    what its chat template ends an answer with."""
    configured = model.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    own = (encoding.end_ids(model.tokenizer, name)[0] for name in ("plain", "chat"))
    return {token for token in (*listed, *own) if token is not None}
