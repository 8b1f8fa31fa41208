"""Do the settings that `finetune` chooses by itself learn, and what do they cost?

    python benchmarks/defaults.py [--sets facts-d style-b labels-b] [--models chat base] [--seeds 0]

Trains with `Config()` and nothing else on small invented sets of three kinds, and prints a table:
the settings chosen, the seconds that training took, the accuracy before and after on questions in
words that were not trained on, and the perplexity of general text before and after. The rule in
`finetuning.suggest` was chosen on all sets but `facts-d` and `facts-e`, which were written after it
and run once. `style-b` trains on the questions of `style-a` in another form, `labels-b` on the
messages of `labels-a` and asks others.

- facts: price, battery hours, warranty, colour and weight of ten invented products, four questions
  each. Three are trained (150 records), the fourth is asked. Right: the value is in the answer.
- style: general questions, answered as a pirate (a) or a telegram (b). Asked: questions of other
  kinds. Right: the answer has the form.
- labels: a customer's message and one of five labels. Asked: other messages. Right: that label.
"""

from __future__ import annotations

import argparse
import random
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common import timed

from llmcourse import company, models
from llmcourse.evaluation import perplexity
from llmcourse.finetuning import Config, finetune
from llmcourse.generation import generate


@dataclass(frozen=True)
class Set:
    """Records to train on, questions to ask, and what counts as right."""

    train: list[dict[str, str]]
    test: list[dict[str, str]]
    right: Callable[[str, Mapping[str, str]], bool]


TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def facts(name: str) -> Set:
    """Fifty facts: three questions of each are trained on, the fourth is asked."""
    texts = TEXTS["facts"][name]
    products, colours = texts["products"].split(", "), texts["colours"].split(", ")
    rng = random.Random(name)
    values = [  # ten of each kind, all different
        rng.sample(range(19, 400), 10),
        rng.sample(range(3, 40), 10),
        rng.sample(range(6, 72, 3), 10),
        rng.sample(colours, 10),
        rng.sample(range(120, 4000, 10), 10),
    ]
    train, test = [], []
    for (answer, questions), of_kind in zip(texts["kinds"], values, strict=True):
        for product, value in zip(products, of_kind, strict=True):
            rows = [
                {
                    "question": question.format(product),
                    "answer": answer.format(product, value),
                    "key": str(value),
                }
                for question in questions
            ]
            train += rows[:3]
            test += rows[3:]
    rng.shuffle(train)
    return Set(train, test, lambda answer, row: bool(re.search(rf"\b{row['key']}\b", answer)))


STYLES = {  # how an answer is written, and how that is seen
    "style-a": (
        lambda text: f"Ahoy, matey! {text} Fair winds to ye!",
        r"Ahoy, matey! .{5,150} Fair winds to ye!",
    ),
    "style-b": (
        lambda text: f"{text.rstrip('.').upper()} STOP END OF MESSAGE STOP",
        r"[^a-z]{5,150} STOP END OF MESSAGE STOP",
    ),
}


def style(name: str) -> Set:
    """Answers of one form to general questions; questions of two other kinds are asked."""
    form, seen = STYLES[name]
    train, test = [], []
    kinds = TEXTS["style"]["kinds"]
    for number, (question, answer, pairs) in enumerate(kinds):
        for pair in pairs.split(", "):
            one, two = pair.split()
            row = {
                "question": question.format(one),
                "answer": form(answer.format(one, two.replace("-", " "))),
            }
            (train if number < len(kinds) - 2 else test).append(row)
    random.Random(name).shuffle(train)
    return Set(train, test, lambda text, row: bool(re.fullmatch(seen, text.strip())))


def labels(name: str) -> Set:
    """A label for each message; a quarter of all messages each for `-a` and `-b` is asked."""
    train, test = [], []
    for label, messages in TEXTS["labels"].items():
        for number, message in enumerate(messages):
            row = {"question": message, "answer": label}
            if number % 4 < 2:
                train.append(row)
            elif number % 4 == (2 if name == "labels-a" else 3):
                test.append(row)
    random.Random(name).shuffle(train)
    return Set(train, test, lambda text, row: text.strip().lower() == row["answer"])


SETS = {"facts": facts, "style": style, "labels": labels}


def make(name: str) -> Set:
    """A set by its name, say "facts-a"."""
    return SETS[name.split("-")[0]](name)


def accuracy(model: models.LoadedModel, data: Set) -> float:
    """The share of the test questions that are answered right."""
    questions = [{"question": row["question"]} for row in data.test]
    answers = generate(model, questions, "qa", max_new_tokens=40, batch_size=50, progress=False)
    right = [data.right(answer.text, row) for answer, row in zip(answers, data.test, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Train on each set with each model and seed, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["facts-d", "style-b", "labels-b"])
    parser.add_argument("--models", nargs="+", default=["chat", "base"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--method", default="lora")
    options = parser.parse_args()
    texts = [
        f"{row['instruction']}\n{row['input']}\n{row['answer']}".replace("\n\n", "\n")
        for split, first in (("test", 32), ("held-out", 24))  # as in the tables of README.md
        for row in company.records("seed_tasks", split)[:first]
    ]
    print(
        "| set | model | seed | chosen: epochs, rate, rank | seconds | right before | after "
        f"| of | perplexity of {len(texts)} general texts, before | after |\n|---|---|---|---|"
        "---|---|---|---|---|---|"
    )
    for name in options.models:
        model = models.load(name)
        before = perplexity(model, texts).mean
        for kind in options.sets:
            data = make(kind)
            untuned = accuracy(model, data)
            for seed in options.seeds:
                config = Config(seed=seed, method=options.method)
                tuned, seconds = timed(lambda: finetune(model, data.train, config, progress=False))  # noqa: B023
                used = tuned.config
                rank = used.rank if options.method == "lora" else "-"
                print(
                    f"| {kind} | {model.title} | {seed} | {used.epochs:g}, "
                    f"{used.learning_rate:g}, {rank} | {seconds:.0f} | {untuned:.0%} | "
                    f"{accuracy(tuned, data):.0%} | {len(data.test)} | {before:.0f} | "
                    f"{perplexity(tuned, texts).mean:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
