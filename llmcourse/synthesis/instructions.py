"""New instructions in the style of seed tasks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.data.records import as_records
from llmcourse.errors import DataError
from llmcourse.generation import Answer, generate
from llmcourse.progress import bar
from llmcourse.synthesis.filters import (
    Pool,
    Sieve,
    Synthesis,
    answer_trouble,
    first_reason,
    instruction_trouble,
)

if TYPE_CHECKING:
    from llmcourse.models import LoadedModel

INSTRUCTION = 44  # longest new instructions in tokens, together
BATCH = 24  # lists a round, and prompts answered at once: fast even on two cores


def self_instruct(
    seed_tasks: Any,
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
        seed_tasks: What `data.load_records` gives, or whatever it takes; those with an input are
            passed over.
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
        DataError: there are too few seed tasks, or one is no record.
        PromptError: the seed tasks or the brief are too long for the model.
    """
    texts = [task["question"] for task in as_records(seed_tasks) if not task["input"]]
    if len(texts) < examples:
        raise DataError(
            f"{len(texts)} seed tasks without an input are too few for lists of {examples}."
        )
    sieve, pool, rng = Sieve(), Pool(texts), random.Random(seed)
    with bar(n, f"{model.title} writes and answers instructions", enabled=progress) as line:
        for number in range(rounds):
            lists = generate(
                model,
                [_list(texts, sieve.kept, examples, rng) for _ in range(BATCH)],
                "plain",
                max_new_tokens=INSTRUCTION,
                batch_size=BATCH,
                temperature=temperature,
                seed=seed + 1000 * number,  # `generate` adds the batch's number
                progress=False,
            )
            accepted = []
            for text in (text for answer in lists for text in _listed(answer)):
                reason = instruction_trouble(text) or first_reason(
                    ("is of an unwanted kind", unwanted and unwanted(text)),
                    ("is much like another", pool.has_like(text)),
                )
                if sieve.passes("instruction", reason, text):
                    pool.add(text)
                    accepted.append(text)
            answers = generate(
                model,
                [f"{text}\n{brief}" for text in accepted],
                max_new_tokens=new_tokens,
                batch_size=BATCH,
                progress=False,
            )
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
    # Few of its own, as in Self-Instruct (two to six): with more the lists drift towards them.
    borrowed = rng.sample(list(own), min(examples // 3, len(own)))
    chosen = [record["question"] for record in borrowed]
    chosen += rng.sample(list(seeds), examples - len(chosen))
    rng.shuffle(chosen)
    lines = [f"{number}. {text}" for number, text in enumerate(chosen, 1)]
    return "\n".join(["Varied tasks for an assistant:", "", *lines, f"{examples + 1}."])


def _listed(answer: Answer) -> list[str]:
    """The complete instructions in what the model put to the list."""
    lines = answer.text.split("\n")  # one instruction, or several with their numbers
    if not answer.finished and len(lines) > 1:
        lines = lines[:-1]  # the limit cut the last one off
    # The model numbers its own lines too, or starts them with the bracket of a number.
    return [text for line in lines if (text := re.sub(r"^\s*\d*[.)]?\s*", "", line).strip())]
