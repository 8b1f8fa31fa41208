"""One answer that is handed on word by word, and can be stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcourse import templates, tiers
from llmcourse.errors import PromptError, SettingError, is_out_of_memory, whole
from llmcourse.generation import Answer, check_loaded, end_tokens, prompt_ids, reading, trouble
from llmcourse.models import LoadedModel

if TYPE_CHECKING:
    import torch

LIKELIEST = 50  # tokens that a draw chooses from, as many as transformers takes by default


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

    At temperature 0 the answer is that of `generation.generate`. Above it, each token is drawn by
    a generator of this call alone: what else draws at random meanwhile, such as a training, is
    left as it is.

    Args:
        model: From `models.load`.
        prompt: A question.
        template: Name in `templates.NAMES`; the model's own if not given.
        more: Called after each token with the whole text so far, without a character that is not
            complete yet; says whether to go on.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        temperature: 0, or from 0.01 to 100; see `generate`.
        seed: For the random draws.

    Returns:
        The answer; `finished` is False where the limit or `more` ended it.

    Raises:
        PromptError: the prompt is empty, or does not fit the model's context or this memory.
        TemplateError: see `templates.render`.
        SettingError: a setting is out of range, or `model` is none.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    wished = tiers.current().new_tokens if max_new_tokens is None else max_new_tokens
    limit, seed = whole("max_new_tokens", wished, 1), whole("seed", seed, 0)
    if temperature and not (isinstance(temperature, int | float) and 0.01 <= temperature < 100):
        raise SettingError(f"temperature={temperature!r} must be 0, or from 0.01 to 100.")
    check_loaded(model)
    if why := trouble(model, prompt, template, max_new_tokens=limit):
        raise PromptError(f"The prompt {why}" if why.startswith("has ") else why)
    name = template or model.template
    rendered = templates.render(prompt, name, tokenizer=model.tokenizer)
    read = prompt_ids(model, rendered, "The prompt")
    ends, start = end_tokens(model), time.perf_counter()
    config = GenerationConfig(
        max_new_tokens=limit, eos_token_id=sorted(ends), pad_token_id=model.tokenizer.pad_token_id,
        use_cache=True, do_sample=False,
    )  # fmt: skip

    def text_of(ids: list[int]) -> str:
        return model.tokenizer.decode([i for i in ids if i not in ends], skip_special_tokens=True)

    def hand_on(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Tell the text so far; True ends the answer, (1,)."""
        on = more(text_of(ids[0, len(read) :].tolist()).rstrip("\ufffd"))
        return torch.tensor([not on], device=ids.device)

    ids = torch.tensor([read], device=model.device)
    try:
        with torch.inference_mode(), reading(model):
            out = model.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=LogitsProcessorList(
                    [_Drawing(temperature, seed)] if temperature else []
                ),
                stopping_criteria=StoppingCriteriaList([hand_on]),
            )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise PromptError(
            f"This machine's memory is too small for a prompt of {len(read)} tokens. Shorten it, "
            f"or choose a smaller model."
        ) from error
    written = out[0, len(read) :].tolist()
    return Answer(
        prompt=prompt, sent=rendered.prompt.replace(templates.INSIDE, ""), text=text_of(written),
        finished=bool(written) and written[-1] in ends, prompt_tokens=len(read),
        new_tokens=len(written), seconds=time.perf_counter() - start,
    )  # fmt: skip


class _Drawing:
    """Draws each token with random numbers of its own."""

    def __init__(self, temperature: float, seed: int) -> None:
        import torch

        self.temperature, self.dice = temperature, torch.Generator().manual_seed(seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` (1, vocabulary) with minus infinity for every token but the one drawn."""
        import torch

        best = scores.topk(min(LIKELIEST, scores.shape[-1]))
        chances = torch.softmax(best.values.float() / self.temperature, -1).cpu()
        place = torch.multinomial(chances, 1, generator=self.dice).to(scores.device)
        left = torch.full_like(scores, float("-inf"))
        return left.scatter(1, best.indices.gather(1, place), 0.0)
