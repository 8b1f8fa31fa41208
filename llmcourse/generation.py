"""Prompting a model many times at once, and getting back only what it wrote.

Prompts are sorted by length, padded on the left and answered in batches: on a CPU the time of
a step is mostly spent reading the weights, so sixteen answers cost little more than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, templates, tiers, turns
from llmcourse.errors import CourseError, PromptError, SettingError, is_out_of_memory, whole
from llmcourse.models import LoadedModel, require_finite
from llmcourse.progress import bar

if TYPE_CHECKING:
    import torch

TOP_K = 50  # tokens that one is drawn from; the default of transformers
SHARED = 128  # tokens that must be spared before a batch's common start is read on its own


@dataclass(frozen=True)
class Answer:
    """What a model wrote to one prompt; `str(answer)` is the text.

    Attributes:
        prompt: The question, as given.
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
    """One prompt to be answered: its number in the input, its text and its token ids."""

    number: int
    prompt: str
    sent: str
    ids: list[int]


def generate(
    model: LoadedModel,
    prompts: Any,
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
        prompts: A question, a record or a conversation (see `templates.fields_of`), or any number
            of them.
        template: Name in `templates.NAMES`; the model's own (`model.template`) if not given.
            "plain" sends the text as it is.
        system: System prompt before each question.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        min_new_tokens: No answer ends before it has so many tokens.
        batch_size: Prompts answered at once; the tier's if not given. A batch that does not
            fit into memory is halved, down to one prompt.
        temperature: 0 takes the likeliest token each time (greedy decoding), so that the same
            question gets the same answer; from 0.01 to 100 tokens are drawn at random (sampling).
        seed: For the random draws.
        progress: False shows no progress.
        failures: Where given, a prompt that can't be answered raises no error: its number, from 0,
            and what is wrong with it go in here, and its answer is None.

    Returns:
        One `Answer` per prompt.

    Raises:
        PromptError: a prompt is empty, or prompt and answer do not fit the model's context window.
        TemplateError: see `templates.render`.
        SettingError: `max_new_tokens`, `batch_size` or `temperature` is out of range, or `model`
            is none.
        NotFinite: the model's logits are NaN or infinite.
    """
    limit = _answer_limit(model, max_new_tokens, temperature)
    shortest = min(whole("min_new_tokens", min_new_tokens, 0), limit)
    size = tiers.current().batch_size if batch_size is None else whole("batch_size", batch_size, 1)
    items = _as_list(prompts)
    jobs = []
    for number, item in enumerate(items):  # all of them before any time is spent
        try:
            jobs.append(_prepared(model, number, item, template, system, limit))
        except CourseError as error:
            if failures is None:
                raise type(error)(f"Prompt {number + 1} of {len(items)}: {error}") from error
            failures[number] = str(error)
    jobs.sort(key=lambda job: len(job.ids))  # so little of a batch is padding
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    answers: dict[int, Answer] = {}
    title = f"{model.title} answers {len(jobs)} prompt{'s' * (len(jobs) != 1)}"
    with bar(len(batches) * limit, title, enabled=progress and bool(jobs)) as line:

        def tick(_: torch.Tensor) -> bool:
            """Move the bar on at each token; it stops no answer."""
            line.update()
            return False

        for number, batch in enumerate(batches):
            sampling = {"temperature": temperature, "seed": seed + number} if temperature else None
            run = partial(_answered, model, limits=(shortest, limit), stop=tick, sampling=sampling)
            for job, answer in zip(batch, halved(run, batch, line.write), strict=True):
                answers[job.number] = answer
            line.update((number + 1) * limit - line.n)  # answers may have ended before the limit
        written = sum(answer.new_tokens for answer in answers.values())
        line.set_postfix_str(f"{written} tokens", refresh=False)
    # Without `failures` there is an answer to each, which the type promises.
    return [answers.get(number) for number in range(len(items))]  # type: ignore[misc]


def stream(
    model: LoadedModel,
    prompt: Any,
    template: str | None = None,
    *,
    more: Callable[[str], bool],
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Answer:
    """Answer one prompt and pass on the text as it grows; may run in a thread of its own.

    At temperature 0 the answer is that of `generate`. Above it, each token is drawn by a generator
    of this call alone: other random draws meanwhile, such as a training's, are not disturbed.

    Args:
        model: From `models.load`.
        prompt: A question, a record or a conversation; see `templates.fields_of`.
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
    limit = _answer_limit(model, max_new_tokens, temperature)
    job = _prepared(model, 0, prompt, template, None, limit)
    ends = end_tokens(model)

    def stop(ids: torch.Tensor) -> bool:
        """Pass on the text so far; True ends the answer."""
        text = _cut(model, job, ids[0, len(job.ids) :].tolist(), ends, 0.0).text
        return not more(text.rstrip("\ufffd"))  # stands for a character's first bytes

    draws = [_Drawing(temperature, seed)] if temperature else []
    run = partial(_answered, model, limits=(0, limit), stop=stop, processors=draws)
    return halved(run, [job])[0]


class _Drawing:
    """A logits processor that draws each token with random numbers of its own.

    transformers' `generate` takes no generator, and torch's global one belongs to a training that
    may run at the same time.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        import torch

        self.temperature, self.rng = temperature, torch.Generator().manual_seed(seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` (1, vocabulary) with minus infinity for every token but the one drawn."""
        import torch

        best = scores.topk(min(TOP_K, scores.shape[-1]))
        probs = torch.softmax(best.values.float() / self.temperature, -1).cpu()
        index = torch.multinomial(probs, 1, generator=self.rng).to(scores.device)
        # every other token impossible: greedy decoding then takes the one drawn
        left = torch.full_like(scores, float("-inf"))
        return left.scatter(1, best.indices.gather(1, index), 0.0)


# --- before: checks, text, tokens -----------------------------------------------------------------


def check_loaded(model: object) -> None:
    """Raise a SettingError unless `model` is a loaded one."""
    if not isinstance(model, LoadedModel):
        raise SettingError(
            f"model={model!r:.80} is not a loaded model. Load it first, e.g. models.load('chat')."
        )


def _answer_limit(model: LoadedModel, max_new_tokens: int | None, temperature: float) -> int:
    """The longest answer in tokens.

    Raises:
        SettingError: it or the temperature is out of range, or `model` is none.
    """
    check_loaded(model)
    if not (temperature == 0 or 0.01 <= temperature < 100):
        raise SettingError(f"temperature={temperature!r} must be 0, or from 0.01 to 100.")
    limit = tiers.current().new_tokens if max_new_tokens is None else max_new_tokens
    return whole("max_new_tokens", limit, 1)


def _as_list(prompts: Any) -> list[Any]:
    """One question, record or conversation, or any number of them, as a list."""
    if isinstance(prompts, str | Mapping) or turns.is_conversation(prompts):
        return [prompts]
    if hasattr(prompts, "columns"):  # a data frame; an empty cell is no value
        return prompts.astype(object).where(prompts.notna(), None).to_dict("records")
    return list(prompts)


def _prepared(
    model: LoadedModel, number: int, item: Any, template: str | None, system: str | None, limit: int
) -> _Job:
    """Render and tokenize a prompt.

    Raises:
        PromptError: it is empty, or leaves too little room for `limit` tokens of an answer.
        TemplateError: see `templates.render`.
    """
    rendered = templates.render(
        item, template or model.template, tokenizer=model.tokenizer, system=system
    )
    ids = prompt_ids(model, rendered, "The prompt")
    room = model.context_length - limit
    if len(ids) > room:
        raise PromptError(
            f"The prompt has {len(ids)} tokens, but {model.title} reads and writes "
            f"{model.context_length} tokens in all, and {limit} are kept for the answer. Shorten "
            f"the prompt by {len(ids) - room} tokens or lower max_new_tokens."
        )
    question = templates.get_field(templates.fields_of(item), "question")
    return _Job(number, question, rendered.prompt.replace(templates.INSIDE, ""), ids)


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
    # On a GPU an id without an embedding ends the whole process.
    if ids and max(ids) >= model.model.get_input_embeddings().num_embeddings:
        raise PromptError(
            f"{here} has tokens that {model.title} does not know: its tokenizer belongs to "
            f"another model."
        )
    return ids


# --- the model at work ----------------------------------------------------------------------------


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
    # Here, not in the handler: there the error's frames still hold the batch's memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    say(f"Out of memory with {len(batch)} prompts at once: going on with {half}.")
    return [*halved(run, batch[:half], say), *halved(run, batch[half:], say)]


def _answered(
    model: LoadedModel,
    batch: list[_Job],
    limits: tuple[int, int],
    stop: Callable[[torch.Tensor], bool],
    sampling: Mapping[str, Any] | None = None,
    processors: Iterable[Any] = (),
) -> list[Answer]:
    """The answers to one batch.

    Args:
        model: From `models.load`.
        batch: Prompts of like length.
        limits: The fewest and the most tokens of an answer.
        stop: Called after each token with all ids so far, (prompts, length); True ends all.
        sampling: `temperature` and `seed` for random draws; None takes the likeliest tokens.
        processors: Of the logits, see transformers' `LogitsProcessor`.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    def criterion(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(ids),), stop(ids), device=ids.device)

    start = time.perf_counter()
    width = max(len(job.ids) for job in batch)
    pad, ends = model.tokenizer.pad_token_id, end_tokens(model)
    shared = _shared(model, batch, width + limits[1])
    # Padding is before what differs: the answer follows the prompt's last token directly.
    gaps = [width - len(job.ids) for job in batch]
    filled = zip(batch, gaps, strict=True)
    ids = torch.tensor([job.ids[:shared] + [pad] * gap + job.ids[shared:] for job, gap in filled])
    mask = torch.tensor([[1] * shared + [0] * gap + [1] * (width - shared - gap) for gap in gaps])
    config = GenerationConfig(
        min_new_tokens=limits[0],
        max_new_tokens=limits[1],
        eos_token_id=sorted(ends),  # a row that has ended is padded until all have
        pad_token_id=pad,
        use_cache=True,  # a model that was trained may have it turned off
        # transformers takes whatever is not given from the model's own settings
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        do_sample=bool(sampling),
        **(
            {"temperature": sampling["temperature"], "top_k": TOP_K, "top_p": 1.0}
            if sampling
            else {}
        ),
    )
    with torch.inference_mode(), reading(model), torch.random.fork_rng(enabled=bool(sampling)):
        if sampling:
            torch.manual_seed(sampling["seed"])
        cache = None
        if shared:  # read once, and known to every row
            start_ids = ids[:1, :shared].to(model.device)
            cache = model.model(start_ids, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(batch))
        out = model.model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=cache,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([criterion]),
        )
    rows, seconds = out[:, width:].tolist(), (time.perf_counter() - start) / len(batch)
    return [_cut(model, job, row, ends, seconds) for job, row in zip(batch, rows, strict=True)]


def _shared(model: LoadedModel, batch: list[_Job], longest: int) -> int:
    """Tokens that all prompts begin with, such as a few-shot prompt's examples; 0 where too few,
    or where the model keeps something else than keys and values of each token (Mamba, say).

    Args:
        model: From `models.load`.
        batch: Prompts.
        longest: Tokens of the longest prompt and its answer.
    """
    columns = zip(*(job.ids[:-1] for job in batch), strict=False)
    same = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    if same * (len(batch) - 1) < SHARED:
        return 0
    config = model.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    # (transformers has no public name for the first; LFM2 has convolutions and does not set it)
    if model.model._is_stateful or kinds - {"full_attention", "sliding_attention"}:
        return 0
    # A layer with a window counts the padding behind the shared tokens as part of its window.
    window = getattr(config, "sliding_window", None) or longest
    return same if longest <= window else 0


@contextmanager
def reading(model: LoadedModel) -> Iterator[None]:
    """A model ready to answer inside the block: no dropout, fast layers, logits checked.

    Raises:
        NotFinite: the logits of a next token are NaN or infinite; `generate` would answer "".
    """
    from llmcourse.models.lora import fast_layers

    was_training, head = model.model.training, model.model.get_output_embeddings()
    hooks = (
        # The states of the prompts' last tokens are apart in memory. For a head with frozen weights
        # torch (2.13) then takes a path on the CPU that is 200 times as slow and needs gigabytes.
        head.register_forward_pre_hook(lambda _, states: (states[0].contiguous(),)),
        head.register_forward_hook(
            lambda _, __, logits: require_finite(logits[..., -1, :], model.model)
        ),
    )
    model.model.eval()
    try:
        with fast_layers(model.model):
            yield
    finally:
        model.model.train(was_training)
        for hook in hooks:
            hook.remove()


def _cut(model: LoadedModel, job: _Job, row: list[int], ends: set[int], seconds: float) -> Answer:
    """Keep `row` up to its first end token; what follows is padding."""
    stop = next((place for place, token in enumerate(row) if token in ends), None)
    return Answer(
        prompt=job.prompt,
        sent=job.sent,
        text=model.tokenizer.decode(row[:stop], skip_special_tokens=True),
        finished=stop is not None,
        prompt_tokens=len(job.ids),
        new_tokens=len(row) if stop is None else stop + 1,
        seconds=seconds,
    )


def end_tokens(model: LoadedModel) -> set[int]:
    """Ids that end an answer: the tokenizer's end-of-sequence token, the model's own list, and
    what its chat template ends an answer with."""
    configured = model.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    own = (encoding.end_ids(model.tokenizer, name)[0] for name in ("plain", "chat"))
    return {token for token in (*listed, *own) if token is not None}
