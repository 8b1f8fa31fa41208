"""A model as the judge of two answers, and how far it can be trusted.

A judge model is asked which of two answers is better, twice, with the answers' places swapped:
models tend to prefer a place (Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot
Arena, 2023). Nothing is parsed: the verdict comes from the probabilities of "A" and "B".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates, tiers
from llmcourse.errors import (
    CorruptModel,
    CourseError,
    DataError,
    PromptError,
    SettingError,
    is_out_of_memory,
    whole,
)
from llmcourse.evaluation.ratings import TIE, Rating, elo
from llmcourse.generation import check_loaded, prompt_ids, reading
from llmcourse.models import LoadedModel
from llmcourse.progress import bar
from llmcourse.stats import Share, share

if TYPE_CHECKING:
    import torch

__all__ = [
    "CRITERION", "PROMPT", "TIE", "Judged", "Rating", "Verdict", "elo", "judged_against",
    "position_bias", "prefer",
]  # fmt: skip

CRITERION = "It is correct, answers just what was asked, and is clear."
PROMPT = (
    "Here are a question and two answers to it, A and B. Which answer is better? {criterion}\n\n"
    "Question: {question}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n"
    "Reply with one letter, A or B. The better answer is:"
)


@dataclass(frozen=True)
class Verdict:
    """What a judge said of two answers.

    Attributes:
        margins: How far it preferred the first answer, in nats: the logarithm of how many times
            as likely its letter is as the other's; above 0 for the first answer, below for the
            second. One number with the first answer at A, one with it at B.
        mass: The probability of the two letters together, in each order. Near 0 the model
            would have written something else than a letter, so its verdict means little.
    """

    margins: tuple[float, float]
    mass: tuple[float, float]

    @property
    def winner(self) -> str:
        """ "first" or "second" where both orders agree on it, else "tie"."""
        if min(self.margins) > 0:
            return "first"
        return "second" if max(self.margins) < 0 else TIE

    @property
    def consistent(self) -> bool:
        """True where the same answer was preferred in both orders."""
        return self.winner != TIE

    @property
    def place(self) -> str:
        """ "A" or "B" where that place was preferred in both orders, else ""."""
        at_a, at_b = self.margins
        if at_a > 0 > at_b:
            return "A"
        return "B" if at_a < 0 < at_b else ""

    @property
    def balanced(self) -> str:
        """The winner by the mean of both margins, in which a liking for a place cancels out.

        It decides where `winner` is a tie by place, so it needs a check against another measure
        (Wang et al., Large Language Models are not Fair Evaluators, 2023).
        """
        mean = sum(self.margins) / 2
        return "first" if mean > 0 else "second" if mean < 0 else TIE


@dataclass(frozen=True)
class Judged:
    """A judge held against another measure.

    Attributes:
        right: The pairs in which it picked the right answer, of all pairs with one right answer.
        ties: The pairs among those in which it picked none. They count as not picked.
    """

    right: Share
    ties: int

    def __str__(self) -> str:
        return f"{self.right}; ties: {self.ties}"


def prefer(
    judge: LoadedModel,
    questions: Iterable[str | templates.Record],
    first: Iterable[Any],
    second: Iterable[Any],
    *,
    criterion: str = CRITERION,
    batch_size: int | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """Let a model say which of two answers to each question is better.

    Each pair is read twice, once in each order, under the judge's own template. It takes two
    passes over a prompt for a pair and writes nothing, so it is cheap.

    Args:
        judge: From `models.load`. Small models judge badly: see `judged_against`.
        questions: What was asked: questions, or records with one.
        first: An answer to each, as text or as `generate` gives it.
        second: The answers to compare them with.
        criterion: What makes an answer better, in a sentence.
        batch_size: Prompts read at once; the tier's if not given. A batch that does not fit into
            memory is halved.
        progress: False shows no progress.

    Returns:
        One `Verdict` a pair, in order.

    Raises:
        SettingError: `judge` is no loaded model, its tokenizer has no single tokens for the
            letters A and B, or an option means nothing.
        DataError: the three lists are not equally long.
        PromptError: a question is empty, or question and answers do not fit the judge's context.
        TemplateError: see `templates.render`.
        CorruptModel: the judge gives no finite numbers.
    """
    check_loaded(judge)
    size = whole("batch_size", tiers.current().batch_size if batch_size is None else batch_size, 1)
    if not isinstance(criterion, str):
        raise SettingError(f"criterion={criterion!r:.60} must be a sentence.")
    given = {"questions": questions, "first": first, "second": second}
    asked, one, other = (_as_list(name, values) for name, values in given.items())
    if not len(asked) == len(one) == len(other):
        raise DataError(
            f"Each question needs two answers: there are {len(asked)} questions, {len(one)} first "
            f"and {len(other)} second answers."
        )
    letters = _letters(judge)
    jobs = []
    for place, (item, a, b) in enumerate(zip(asked, one, other, strict=True)):
        here = f"Pair {place} (counted from 0)"
        try:
            if a is None or b is None:
                raise DataError("an answer is missing (None). Leave the pair out.")
            question = templates.render(item, "plain").prompt
            for answers in ((a, b), (b, a)):
                jobs.append(_ids(judge, _prompt(criterion, question, *map(str, answers))))
        except CourseError as error:
            raise type(error)(f"{here}: {error}") from error
    order = sorted(range(len(jobs)), key=lambda number: len(jobs[number]))
    heard: dict[int, tuple[float, float]] = {}
    told = f"{judge.title} judges {len(asked)} pair{'s' * (len(asked) != 1)}"
    with bar(len(jobs), told, enabled=progress and bool(jobs)) as line:
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            read = _read(judge, [jobs[number] for number in batch], letters)
            heard |= dict(zip(batch, read, strict=True))
            line.update(len(batch))
    verdicts = []
    for number in range(0, len(jobs), 2):
        (at_a, mass), (at_b, mass_swapped) = heard[number], heard[number + 1]
        verdicts.append(Verdict((at_a, -at_b), (mass, mass_swapped)))
    return verdicts


def _as_list(name: str, values: Any) -> list[Any]:
    """Questions or answers as a list.

    Raises:
        DataError: it is a single text or record, or can't be gone through.
    """
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise DataError(f"{name} must be a list, one item a pair, not {type(values).__name__}.")
    return list(values)


def _prompt(criterion: str, question: str, a: str, b: str) -> str:
    """What the judge is asked; braces in a model's answer stay text."""
    parts = {"criterion": criterion, "question": question, "a": a, "b": b}
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], PROMPT)


def _ids(judge: LoadedModel, prompt: str) -> list[int]:
    """The prompt's token ids under the judge's template.

    Raises:
        PromptError: they do not fit the judge's context, or it does not know one of them.
    """
    rendered = templates.render(prompt, judge.template, tokenizer=judge.tokenizer)
    ids = prompt_ids(judge, rendered, "it")
    if len(ids) > judge.context_length - 1:
        raise PromptError(
            f"question and answers have {len(ids)} tokens, but {judge.title} reads at most "
            f"{judge.context_length - 1}. Shorten the answers, or let another model judge."
        )
    return ids


def _letters(judge: LoadedModel) -> tuple[list[int], list[int]]:
    """The tokens that are an "A" and those that are a "B", with and without a space before.

    Raises:
        SettingError: a letter has none.
    """
    found = []
    for letter in "AB":
        encoded = (judge.tokenizer(text, add_special_tokens=False).input_ids
                   for text in (letter, f" {letter}"))  # fmt: skip
        found.append(sorted({ids[0] for ids in encoded if len(ids) == 1}))
    if not all(found) or set(found[0]) & set(found[1]):
        raise SettingError(
            f"{judge.title} can't judge: its tokenizer has no token of its own for the letter A "
            f"or B. Take another model."
        )
    return found[0], found[1]


def _read(
    judge: LoadedModel, batch: list[list[int]], letters: tuple[list[int], list[int]]
) -> list[tuple[float, float]]:
    """For each prompt log p(A) - log p(B) and p(A) + p(B), as the next token.

    A batch that does not fit into memory is halved.
    """
    import torch

    try:
        likely = _next_token(judge, batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise PromptError(
                f"This machine's memory is too small for one prompt of {len(batch[0])} tokens. "
                f"Shorten the answers, or let a smaller model judge."
            ) from error
        half = len(batch) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [*_read(judge, batch[:half], letters), *_read(judge, batch[half:], letters)]
    a, b = (torch.logsumexp(likely[:, tokens], dim=-1) for tokens in letters)
    if not torch.isfinite(a - b).all():
        raise CorruptModel(
            f"{judge.title} gives no numbers for the letters A and B in {judge.dtype}. Load it in "
            f"another type: models.load(…, dtype=torch.float32)."
        )
    return list(zip((a - b).tolist(), (a.exp() + b.exp()).tolist(), strict=True))


def _next_token(judge: LoadedModel, batch: list[list[int]]) -> torch.Tensor:
    """Log-probabilities of the token after each prompt, (prompts, vocabulary), float32.

    Prompts are padded on the left, so that the last place is every prompt's last token; only its
    logits are computed. Positions count from a prompt's first token.
    """
    import torch

    width = max(map(len, batch))
    pad = judge.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=judge.device)
    lengths = torch.tensor([[width - len(row)] for row in batch], device=judge.device)
    places = torch.arange(width, device=judge.device) - lengths
    model = judge.model
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # of an adapter
    known = inspect.signature(plain.forward).parameters
    more = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    if "position_ids" in known:
        more["position_ids"] = places.clamp(min=0)
    with torch.inference_mode(), reading(judge):
        out = model(ids, attention_mask=(places >= 0).long(), use_cache=False, **more)
    return out.logits[:, -1].float().log_softmax(dim=-1)


# --- how far a judge can be trusted ---------------------------------------------------------------


def position_bias(verdicts: Iterable[Verdict]) -> Share:
    """How often the judge preferred the same place, A or B, in both orders.

    Such a verdict says something about the place and nothing about the answers.

    Raises:
        DataError: there are no verdicts.
    """
    verdicts = list(verdicts)
    if not verdicts:
        raise DataError("There are no verdicts.")
    return share(verdict.place != "" for verdict in verdicts)


def judged_against(
    verdicts: Sequence[Verdict],
    first_right: Iterable[Any],
    second_right: Iterable[Any],
    *,
    balanced: bool = False,
) -> Judged:
    """How often the judge picks the right answer, among pairs of which exactly one is right.

    A tie counts as not picked. A coin in the judge's place would be right in half of the pairs.

    Args:
        verdicts: From `prefer`.
        first_right: Whether each first answer is right by another measure, such as key facts.
        second_right: The same for each second answer.
        balanced: True goes by `Verdict.balanced`, which hardly knows ties.

    Raises:
        DataError: the lists are not equally long, or in no pair exactly one answer is right.
    """
    one, other = ([bool(right) for right in side] for side in (first_right, second_right))
    if not len(verdicts) == len(one) == len(other):
        raise DataError(
            f"Each verdict needs two measures: there are {len(verdicts)} verdicts, {len(one)} "
            f"first and {len(other)} second ones."
        )
    picked = [
        (verdict.balanced if balanced else verdict.winner, "first" if a else "second")
        for verdict, a, b in zip(verdicts, one, other, strict=True)
        if a != b
    ]
    if not picked:
        raise DataError(
            f"In none of the {len(verdicts)} pairs is exactly one answer right, so the judge can't "
            f"be held against that measure."
        )
    ties = sum(winner == TIE for winner, _ in picked)
    return Judged(share(winner == right for winner, right in picked), ties)
