"""New instructions in the style of seed tasks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.errors import DataError
from llmcourse.generation import Answer, generate
from llmcourse.progress import bar
from llmcourse.synthesis.filters import Pool, answer_trouble, instruction_trouble
from llmcourse.synthesis.results import Sieve, Synthesis

if TYPE_CHECKING:
    from llmcourse.models import LoadedModel

INSTRUCTION = 44  # longest new instructions in tokens, together


def self_instruct(
    seed_tasks: Sequence[Mapping[str, Any]],
    model: LoadedModel,
    n: int,
    *,
    examples: int = 6,
    new_tokens: int = 64,
    temperature: float = 0.7,
    brief: str = "Reply briefly, in one or two sentences.",
    unwanted: Callable[[str], bool] | None = None,
    seed: int = 0,
    rounds: int = 12,
    progress: bool = True,
) -> Synthesis:
    """Let a model invent instructions in the style of seed tasks, and answer them.

    Each prompt is a numbered list of instructions that breaks off; the model, without its chat
    template, goes on with the list. What passes the filters it then answers, with its template.
    After Self-Instruct (Wang et al., 2023) and Alpaca (Taori et al., 2023), where one large model
    did both; here it is a small one, so few answers are right: what they teach is the form.

    Args:
        seed_tasks: Records with an instruction; those with an input are passed over.
        model: A chat model.
        n: How many records are wanted; the last round may bring a few more.
        examples: Instructions in each list, a third of them the model's own once there are some.
        new_tokens: Longest answer in tokens.
        temperature: For the instructions; answers are always the likeliest.
        brief: Said after each instruction when it is answered, and not kept in the record. Left to
            themselves, small chat models write until the limit stops them.
        unwanted: True for instructions to leave out, such as kinds held out for a test.
        seed: For all random draws.
        rounds: After so many rounds it is given up, with what there is.
        progress: False shows nothing.

    Returns:
        The records (question, answer) and what was rejected.

    Raises:
        DataError: there are too few seed tasks.
        TemplateError: a seed task has no instruction.
        PromptError: the seed tasks or the brief are too long for the model.
    """
    pool_texts = [
        templates.get_field(task, "question")
        for task in seed_tasks
        if not templates.get_field(task, "input", needed=False)
    ]
    if len(pool_texts) < examples:
        raise DataError(
            f"{len(pool_texts)} seed tasks without an input are too few for lists of {examples}."
        )
    batch = {"batch_size": 24, "progress": False}
    sieve, pool, rng = Sieve(), Pool(pool_texts), random.Random(seed)
    with bar(n, f"{model.title} writes and answers instructions", enabled=progress) as line:
        for number in range(rounds):
            lists = [_list(pool_texts, sieve.kept, examples, rng) for _ in range(24)]
            how = {"temperature": temperature, "seed": seed + 1000 * number, **batch}
            written = generate(model, lists, "plain", max_new_tokens=INSTRUCTION, **how)
            fresh = [text for answer in written for text in _listed(answer)]
            accepted = [text for text in fresh if _passes(text, sieve, pool, unwanted)]
            prompts = [f"{text}\n{brief}" for text in accepted]
            answers = generate(model, prompts, max_new_tokens=new_tokens, **batch)
            for text, answer in zip(accepted, answers, strict=True):
                written = answer.text.strip()
                if sieve.passes("answer", answer_trouble(answer, text), text, written):
                    sieve.kept.append({"question": text, "answer": written})
            line.update(min(n, len(sieve.kept)) - line.n)
            if len(sieve.kept) >= n:
                break
    return sieve.done()


def _list(
    seeds: Sequence[str], own: Sequence[Mapping[str, str]], examples: int, rng: random.Random
) -> str:
    """A numbered list of instructions that breaks off after the next number."""
    borrowed = rng.sample(list(own), min(examples // 3, len(own)))
    chosen = [record["question"] for record in borrowed]
    chosen += rng.sample(list(seeds), examples - len(chosen))
    rng.shuffle(chosen)
    lines = [f"{number}. {text}" for number, text in enumerate(chosen, 1)]
    return "\n".join(["Varied tasks for an assistant:", "", *lines, f"{examples + 1}."])


def _listed(answer: Answer) -> list[str]:
    """The complete instructions in what the model put to the list."""
    lines = answer.text.split("\n")
    if not answer.finished and len(lines) > 1:
        lines = lines[:-1]  # the limit cut the last one off
    return [text for line in lines if (text := re.sub(r"^\s*\d*[.)]?\s*", "", line).strip())]


def _passes(text: str, sieve: Sieve, pool: Pool, unwanted: Callable[[str], bool] | None) -> bool:
    trouble = instruction_trouble(text)
    if not trouble and unwanted and unwanted(text):
        trouble = "is of an unwanted kind"
    if not trouble and pool.has_like(text):
        trouble = "is much like another"
    if not sieve.passes("instruction", trouble, text):
        return False
    pool.add(text)
    return True
