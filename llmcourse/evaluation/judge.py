"""A model as the judge of two answers, how far it can be trusted, and Elo ratings of comparisons.

A judge model is asked which of two answers is better, twice, with the answers swapped: models tend
to prefer a position (Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, 2023).
Nothing is parsed: the verdict comes from the probabilities of "A" and "B".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates, tiers
from llmcourse.errors import DataError, PromptError, SettingError
from llmcourse.generation import check_loaded, halved, prompt_ids, reading
from llmcourse.models import LoadedModel
from llmcourse.progress import bar
from llmcourse.stats import Share, share

if TYPE_CHECKING:
    import numpy
    import torch

# The prompt ends right before the letter, so that the next token is the verdict: a judge that
# explains itself first must write a text, which has to be parsed.
PROMPT = (
    "Here are a question and two answers to it, A and B. Which answer is better? It is correct, "
    "answers just what was asked, and is clear.\n\n"
    "Question: {question}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n"
    "Reply with one letter, A or B. The better answer is:"
)
TIE = "tie"  # instead of a winner's name
_START, _K = 1000.0, 16  # everyone's rating at first, and the most points a result can move
_SHUFFLES = 20  # orders of the results to average over
_DRAWS = 500  # of the ratings' bootstrap
_AT_ONCE = 2**21  # results replayed in one go: some 50 MB


@dataclass(frozen=True)
class Verdict:
    """What a judge makes of two answers.

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
    def position(self) -> str:
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


def prefer(
    judge: LoadedModel,
    questions: Iterable[str | templates.Record],
    first: Iterable[Any],
    second: Iterable[Any],
) -> list[Verdict]:
    """Let a model say which of two answers to each question is better.

    Each pair is read twice, once in each order, under the judge's own template. It takes two
    passes over a prompt per pair and writes nothing, so it is cheap.

    Args:
        judge: From `models.load`. Small models judge badly: see `judged_against`.
        questions: Questions, or records with one.
        first: An answer to each, as text or as `generate` gives it.
        second: The answers to compare them with.

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
    size = tiers.current().batch_size
    questions, first, second = list(questions), list(first), list(second)
    if not len(questions) == len(first) == len(second) or None in (*first, *second):
        raise DataError("Each question needs two answers, and none may be missing (None).")
    letters = _letters(judge)
    prompts = []  # token ids; of each pair the prompt in one order, then that in the other
    for number, (item, a, b) in enumerate(zip(questions, first, second, strict=True)):
        question = templates.render(item, "plain").prompt
        for one, other in ((a, b), (b, a)):
            parts = {"question": question, "a": str(one), "b": str(other)}
            text = templates.fill(PROMPT, **parts)
            rendered = templates.render(text, judge.template, tokenizer=judge.tokenizer)
            ids = prompt_ids(judge, rendered, f"Pair {number}")
            if len(ids) >= judge.context_length:
                raise PromptError(
                    f"Pair {number} (counted from 0) has {len(ids)} tokens, but {judge.title} "
                    f"reads at most {judge.context_length - 1}. Shorten the answers, or let "
                    f"another model judge."
                )
            prompts.append(ids)
    # Prompts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    scores: dict[int, tuple[float, float]] = {}
    title = f"{judge.title} judges {len(questions)} pair{'s' * (len(questions) != 1)}"
    with bar(len(prompts), title, enabled=bool(prompts)) as line:
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            read = halved(
                lambda part: _read(judge, part, letters), [prompts[n] for n in batch], line.write
            )
            scores |= dict(zip(batch, read, strict=True))
            line.update(len(batch))
    verdicts = []
    for place in range(0, len(prompts), 2):
        (at_a, mass), (at_b, mass_swapped) = scores[place], scores[place + 1]
        # With the answers swapped, what speaks for A speaks for the second answer.
        verdicts.append(Verdict((at_a, -at_b), (mass, mass_swapped)))
    return verdicts


def _letters(judge: LoadedModel) -> tuple[list[int], list[int]]:
    """The tokens that are an "A" and those that are a "B", with and without a space before."""

    def tokens(letter: str) -> list[int]:
        forms = judge.tokenizer([letter, f" {letter}"], add_special_tokens=False).input_ids
        return sorted({ids[0] for ids in forms if len(ids) == 1})

    a, b = tokens("A"), tokens("B")  # tokenizers differ in whether the space belongs to the word
    if not a or not b or set(a) & set(b):
        raise SettingError(f"{judge.title} can't judge: it has no token for the letter A or B.")
    return a, b


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

    Prompts are padded on the left, so that the last position is every prompt's last token.
    """
    import torch
    from transformers import GenerationConfig

    width, pad = max(map(len, batch)), judge.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
    # One step of `generate` instead of a call of the model: it counts positions from each prompt's
    # first token and has only the last position's logits computed, in every architecture.
    config = GenerationConfig(
        max_new_tokens=1, pad_token_id=pad, output_logits=True, return_dict_in_generate=True
    )
    with torch.inference_mode(), reading(judge):
        out = judge.model.generate(
            ids.to(judge.device), attention_mask=mask.to(judge.device), generation_config=config
        )
    return out.logits[0].float().log_softmax(dim=-1)


# --- how far a judge can be trusted ---------------------------------------------------------------


def position_bias(verdicts: Iterable[Verdict]) -> Share:
    """How often the judge preferred the same position, A or B, in both orders.

    Such a verdict says something about the position and nothing about the answers.

    Raises:
        DataError: there are no verdicts.
    """
    return share(verdict.position != "" for verdict in verdicts)


def judged_against(
    verdicts: Sequence[Verdict],
    first_right: Iterable[Any],
    second_right: Iterable[Any],
    *,
    balanced: bool = False,
) -> Share:
    """How often the judge picks the right answer, among pairs of which exactly one is right.

    A tie counts as not picked. Tossing a coin would be right in half of the pairs.

    Args:
        verdicts: From `prefer`.
        first_right: Whether each first answer is right by another measure, such as key facts.
        second_right: The same for each second answer.
        balanced: True goes by `Verdict.balanced`, which hardly has ties.

    Raises:
        DataError: in no pair exactly one answer is right.
    """
    picked = [
        (verdict.balanced if balanced else verdict.winner, "first" if a else "second")
        for verdict, a, b in zip(verdicts, first_right, second_right, strict=True)
        if bool(a) != bool(b)
    ]
    # (Pairs with two right or two wrong answers say nothing about the judge.)
    if not picked:
        raise DataError("In no pair is exactly one answer right, so there is nothing to compare.")
    return share(winner == right for winner, right in picked)


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


def elo(results: Iterable[tuple[str, str, str]]) -> dict[str, Rating]:
    """Elo ratings from comparisons of two, whoever made them: people or a judge model.

    Of two with the ratings a and b the first is expected to score 1 / (1 + 10^((b - a) / 400)):
    400 points more mean ten wins to a loss. After each result both ratings move by 16 times what
    the score (1, 0, or a half for a tie) was above or below that (Elo, The Rating of Chessplayers,
    1978). The ratings keep their sum. As they depend on the order of the results, they are averaged
    over orders drawn at random, and the order given does not matter. With few results they
    stay near 1000: what they say is the order and the distances, not a lasting strength.

    The interval is the percentile bootstrap's (Efron and Tibshirani, 1993): results are drawn again
    with replacement 500 times. It takes them for independent; where one of two always wins it
    has no width, however few the results.

    Args:
        results: (name, other name, winner's name or "tie") each, as `BlindVote.results` gives them.

    Returns:
        Name to `Rating`, the best first.

    Raises:
        DataError: there are no results, or one is not a result.
    """
    import numpy

    games = []
    for result in results:
        one, other, winner = result
        if one == other or winner not in (one, other, TIE):
            raise DataError(f"A result is two different names and the winner's, not {result!r}.")
        # Written one way round and sorted, so that the order they were given in can't matter.
        one, other = sorted((one, other))
        games.append((one, other, 0.5 if winner == TIE else float(winner == one)))
    if not games:
        raise DataError("There are no results to rate by.")
    games.sort()
    names = sorted({name for one, other, _ in games for name in (one, other)})
    first = numpy.array([names.index(one) for one, _, _ in games])
    second = numpy.array([names.index(other) for _, other, _ in games])
    won = numpy.array([score for _, _, score in games])
    rng, count = numpy.random.default_rng(0), len(games)

    def ratings(rows: numpy.ndarray) -> numpy.ndarray:
        """Mean ratings over orders drawn at random, (draws, names); `rows` is (draws, results)."""
        orders = rng.permuted(numpy.repeat(rows, _SHUFFLES, axis=0), axis=1)
        # Elo depends on the order of results; people's and judges' have none, so many are averaged.
        rated = numpy.full((len(orders), len(names)), _START)
        each = numpy.arange(len(orders))
        for game in orders.T:  # all orders at once, one result of each after the other
            ahead = rated[each, second[game]] - rated[each, first[game]]
            moved = _K * (won[game] - 1 / (1 + 10 ** (ahead / 400)))
            rated[each, first[game]] += moved
            rated[each, second[game]] -= moved
        return rated.reshape(len(rows), _SHUFFLES, len(names)).mean(axis=1)

    values = ratings(numpy.arange(count)[None])[0]  # of the results as they are
    # Of results drawn with replacement, in blocks, so that ten thousand of them fit in memory too.
    block = max(1, _AT_ONCE // (count * _SHUFFLES))
    sizes = [min(block, _DRAWS - done) for done in range(0, _DRAWS, block)]
    drawn = numpy.concatenate([ratings(rng.integers(0, count, (size, count))) for size in sizes])
    low, high = numpy.percentile(drawn, [2.5, 97.5], axis=0)
    rated = {
        name: Rating(*map(float, row)) for name, *row in zip(names, values, low, high, strict=True)
    }
    return dict(sorted(rated.items(), key=lambda item: -item[1].value))
