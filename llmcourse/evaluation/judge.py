"""A model as the judge of two answers, how far it can be trusted, and Elo ratings of comparisons.

A judge model is asked which of two answers is better, twice, with the answers swapped: models tend
to prefer a position (Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, 2023).
Nothing is parsed: the verdict comes from the probabilities of "A" and "B".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates, tiers
from llmcourse.errors import (
    CourseError,
    DataError,
    PromptError,
    SettingError,
    whole,
)
from llmcourse.generation import check_loaded, halved, prompt_ids, reading
from llmcourse.models import LoadedModel
from llmcourse.progress import bar
from llmcourse.stats import Share, share

if TYPE_CHECKING:
    import numpy
    import torch

CRITERION = "It is correct, answers just what was asked, and is clear."
PROMPT = (
    "Here are a question and two answers to it, A and B. Which answer is better? {criterion}\n\n"
    "Question: {question}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n"
    "Reply with one letter, A or B. The better answer is:"
)
TIE = "tie"  # instead of a winner's name
_DRAWS = 500  # of the ratings' bootstrap
_AT_ONCE = 2**21  # results played in one go


@dataclass(frozen=True)
class Verdict:
    """What a judge said of two answers.

    Attributes:
        margins: How far it preferred the first answer, in nats: the logarithm of how many times
            as likely its letter is as the other's; above 0 for the first answer, below for the
            second. One number with the first answer at A, one with it at B.
        mass: The probability of the two letters together, in each order. Near 0 the model
            would have written something other than a letter, so its verdict means little.
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
    def place(self) -> str:
        """ "A" or "B" where that position was preferred in both orders, else ""."""
        at_a, at_b = self.margins
        return "A" if at_a > 0 > at_b else "B" if at_a < 0 < at_b else ""

    @property
    def balanced(self) -> str:
        """The winner by the mean of both margins, in which a position bias cancels out.

        It decides where `winner` is a tie by position, so it needs a check against another measure
        (Wang et al., Large Language Models are not Fair Evaluators, 2023).
        """
        mean = sum(self.margins) / 2
        return "first" if mean > 0 else "second" if mean < 0 else TIE


@dataclass(frozen=True)
class Judged:
    """A judge compared with another measure.

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
    passes over a prompt per pair and writes nothing, so it is cheap.

    Args:
        judge: From `models.load`. Small models judge badly: see `judged_against`.
        questions: Questions, or records with one.
        first: An answer to each, as text or as `generate` gives it.
        second: The answers to compare them with.
        criterion: What makes an answer better, in a sentence.
        batch_size: Prompts read at once; the tier's if not given. A batch that does not fit into
            memory is halved.
        progress: False shows no progress.

    Returns:
        One `Verdict` per pair, in order.

    Raises:
        SettingError: `judge` is not a loaded model, or its tokenizer has no single tokens for the
            letters A and B.
        DataError: the three lists are not equally long, or an answer is missing.
        PromptError: a question is empty, or question and answers do not fit the judge's context.
        TemplateError: see `templates.render`.
        NotFinite: the judge's logits are NaN or infinite.
    """
    check_loaded(judge)
    size = whole("batch_size", tiers.current().batch_size if batch_size is None else batch_size, 1)
    questions, first, second = list(questions), list(first), list(second)
    if not len(questions) == len(first) == len(second):
        raise DataError(
            f"Each question needs two answers: there are {len(questions)} questions, {len(first)} "
            f"first and {len(second)} second answers."
        )
    letters = _letters(judge)
    jobs = []
    for number, (item, a, b) in enumerate(zip(questions, first, second, strict=True)):
        try:
            if a is None or b is None:
                raise DataError("an answer is missing (None). Leave the pair out.")
            question = templates.render(item, "plain").prompt
            for answers in ((a, b), (b, a)):
                jobs.append(_ids(judge, _prompt(criterion, question, *map(str, answers))))
        except CourseError as error:
            raise type(error)(f"Pair {number} (counted from 0): {error}") from error
    order = sorted(range(len(jobs)), key=lambda number: len(jobs[number]))
    scores: dict[int, tuple[float, float]] = {}
    title = f"{judge.title} judges {len(questions)} pair{'s' * (len(questions) != 1)}"
    with bar(len(jobs), title, enabled=progress and bool(jobs)) as line:
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            read = halved(
                lambda part: _read(judge, part, letters), [jobs[n] for n in batch], line.write
            )
            scores |= dict(zip(batch, read, strict=True))
            line.update(len(batch))
    verdicts = []
    for number in range(0, len(jobs), 2):
        (at_a, mass), (at_b, mass_swapped) = scores[number], scores[number + 1]
        verdicts.append(Verdict((at_a, -at_b), (mass, mass_swapped)))
    return verdicts


def _prompt(criterion: str, question: str, a: str, b: str) -> str:
    """The judge's prompt; braces in a model's answer stay text."""
    parts = {"criterion": criterion, "question": question, "a": a, "b": b}
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], PROMPT)


def _ids(judge: LoadedModel, prompt: str) -> list[int]:
    """The prompt's token ids under the judge's template."""
    rendered = templates.render(prompt, judge.template, tokenizer=judge.tokenizer)
    ids = prompt_ids(judge, rendered, "it")
    if len(ids) > judge.context_length - 1:
        raise PromptError(
            f"question and answers have {len(ids)} tokens, but {judge.title} reads at most "
            f"{judge.context_length - 1}. Shorten the answers, or let another model judge."
        )
    return ids


def _letters(judge: LoadedModel) -> tuple[list[int], list[int]]:
    """The tokens that are an "A" and those that are a "B", with and without a space before."""
    found = []
    for letter in "AB":
        forms = (
            judge.tokenizer(f, add_special_tokens=False).input_ids for f in (letter, f" {letter}")
        )
        found.append(sorted({ids[0] for ids in forms if len(ids) == 1}))
    if not all(found) or set(found[0]) & set(found[1]):
        raise SettingError(
            f"{judge.title} can't judge: its tokenizer has no token of its own for the letter A "
            f"or B. Take another model."
        )
    return found[0], found[1]


def _read(
    judge: LoadedModel, batch: list[list[int]], letters: tuple[list[int], list[int]]
) -> list[tuple[float, float]]:
    """For each prompt log p(A) - log p(B) and p(A) + p(B), as the next token."""
    import torch

    log_probs = _next_token(judge, batch)
    a, b = (torch.logsumexp(log_probs[:, tokens], dim=-1) for tokens in letters)
    return list(zip((a - b).tolist(), (a.exp() + b.exp()).tolist(), strict=True))


def _next_token(judge: LoadedModel, batch: list[list[int]]) -> torch.Tensor:
    """Log-probabilities of the token after each prompt, (prompts, vocabulary), float32.

    Prompts are padded on the left, so that the last position is every prompt's last token; only
    its logits are computed. Positions count from a prompt's first token.
    """
    import torch

    width = max(map(len, batch))
    pad = judge.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=judge.device)
    padding = torch.tensor([[width - len(row)] for row in batch], device=judge.device)
    positions = torch.arange(width, device=judge.device) - padding
    model = judge.model
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # of an adapter
    known = inspect.signature(plain.forward).parameters
    more = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    if "position_ids" in known:
        more["position_ids"] = positions.clamp(min=0)
    with torch.inference_mode(), reading(judge):
        out = model(ids, attention_mask=(positions >= 0).long(), use_cache=False, **more)
    return out.logits[:, -1].float().log_softmax(dim=-1)


# --- how far a judge can be trusted ---------------------------------------------------------------


def position_bias(verdicts: Iterable[Verdict]) -> Share:
    """How often the judge preferred the same position, A or B, in both orders.

    Such a verdict says something about the position and nothing about the answers.

    Raises:
        DataError: there are no verdicts.
    """
    return share(verdict.place != "" for verdict in verdicts)


def judged_against(
    verdicts: Sequence[Verdict],
    first_right: Iterable[Any],
    second_right: Iterable[Any],
    *,
    balanced: bool = False,
) -> Judged:
    """How often the judge picks the right answer, among pairs of which exactly one is right.

    A tie counts as not picked. Tossing a coin would be right in half of the pairs.

    Args:
        verdicts: From `prefer`.
        first_right: Whether each first answer is right by another measure, such as key facts.
        second_right: The same for each second answer.
        balanced: True goes by `Verdict.balanced`, which hardly has ties.

    Raises:
        DataError: the lists are not equally long, or in no pair exactly one answer is right.
    """
    one, other = list(first_right), list(second_right)
    if not len(verdicts) == len(one) == len(other):
        raise DataError(
            f"Each verdict needs two measures: there are {len(verdicts)} verdicts, {len(one)} "
            f"first and {len(other)} second ones."
        )
    picked = [
        (verdict.balanced if balanced else verdict.winner, "first" if a else "second")
        for verdict, a, b in zip(verdicts, one, other, strict=True)
        if bool(a) != bool(b)
    ]
    if not picked:
        raise DataError(
            f"In none of the {len(verdicts)} pairs is exactly one answer right, so the judge can't "
            f"be compared with that measure."
        )
    ties = sum(winner == TIE for winner, _ in picked)
    return Judged(share(winner == right for winner, right in picked), ties)


# --- ratings --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rating:
    """An Elo rating with its 95 % interval, in points.

    Attributes:
        value: The rating.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0f} (95 %: {self.low:.0f}–{self.high:.0f})"


def elo(
    results: Iterable[tuple[str, str, str]],
    *,
    start: float = 1000,
    k: float = 16,
    shuffles: int = 20,
    seed: int = 0,
) -> dict[str, Rating]:
    """Elo ratings from comparisons of two, whoever made them: people or a judge model.

    Of two with the ratings a and b the first is expected to score 1 / (1 + 10^((b - a) / 400)):
    400 points more mean ten wins to a loss. After each result both ratings move by `k` times what
    the score (1, 0, or a half for a tie) was above or below that (Elo, The Rating of Chessplayers,
    1978). The ratings keep their sum. As they depend on the order of the results, they are averaged
    over orders drawn at random, and the order given does not matter. With few results they
    stay near `start`: what they say is the order and the distances, not a lasting strength.

    The interval is the percentile bootstrap's (Efron and Tibshirani, 1993): results are drawn again
    with replacement 500 times. It takes them for independent; where one of two always wins it
    has no width, however few the results.

    Args:
        results: (name, other name, winner's name or "tie") each, as `BlindVote.results` gives them.
        start: Everyone's rating before the first result.
        k: The most points a result can move.
        shuffles: Orders to average over.
        seed: Of the orders and draws; the same seed gives the same ratings.

    Returns:
        Name to `Rating`, the best first.

    Raises:
        DataError: there are no results, or one is not a result.
    """
    import numpy

    names, games = _games(results)
    rng = numpy.random.default_rng(seed)
    count = len(games)
    play = {"names": len(names), "shuffles": shuffles, "start": start, "k": k, "rng": rng}
    values = _rated(games, numpy.arange(count)[None], **play)[0]
    block = max(1, _AT_ONCE // (count * shuffles))
    drawn = numpy.concatenate(
        [
            _rated(games, rng.integers(0, count, (min(block, _DRAWS - done), count)), **play)
            for done in range(0, _DRAWS, block)
        ]
    )
    low, high = numpy.percentile(drawn, [2.5, 97.5], axis=0)
    ratings = {
        name: Rating(*map(float, row))
        for name, row in zip(names, zip(values, low, high, strict=True), strict=True)
    }
    return dict(sorted(ratings.items(), key=lambda item: -item[1].value))


def _games(results: Iterable[tuple[str, str, str]]) -> tuple[list[str], numpy.ndarray]:
    """The names in order, and (index of one, index of the other, score of the one) per result."""
    import numpy

    kept = []
    for number, result in enumerate(results):
        if len(result) != 3 or result[0] == result[1] or result[2] not in (*result[:2], TIE):
            raise DataError(
                f"Result {number} (counted from 0) must be two different names and the winner's, "
                f"or 'tie', not {result!r:.80}."
            )
        one, other = sorted(result[:2])
        kept.append((one, other, 0.5 if result[2] == TIE else float(result[2] == one)))
    if not kept:
        raise DataError("There are no results to rate by.")
    kept.sort()  # so that the order they were given in can't matter
    names = sorted({name for one, other, _ in kept for name in (one, other)})
    return names, numpy.array(
        [(names.index(one), names.index(other), score) for one, other, score in kept]
    )


def _rated(
    games: numpy.ndarray,
    rows: numpy.ndarray,
    *,
    names: int,
    shuffles: int,
    start: float,
    k: float,
    rng: numpy.random.Generator,
) -> numpy.ndarray:
    """Mean ratings over orders drawn at random, (draws, names).

    Args:
        games: (results, 3), from `_games`.
        rows: The results that each draw has, (draws, results).
    """
    import numpy

    orders = rng.permuted(numpy.repeat(rows, shuffles, axis=0), axis=1)
    ratings = numpy.full((len(orders), names), float(start))
    each = numpy.arange(len(orders))
    for step in orders.T:
        one, other = games[step, 0].astype(int), games[step, 1].astype(int)
        ahead = ratings[each, other] - ratings[each, one]
        moved = k * (games[step, 2] - 1 / (1 + 10 ** (ahead / 400)))
        ratings[each, one] += moved
        ratings[each, other] -= moved
    return ratings.reshape(len(rows), shuffles, names).mean(axis=1)
