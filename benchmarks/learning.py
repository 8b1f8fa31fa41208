"""How long until the chat model knows 50 facts of the company, asked in words it has never read?

    python benchmarks/learning.py [--seeds 0 1 2] [--facts 50] [--epochs 5] [--split test]

Trains an adapter on three wordings of a question for each fact, then asks in the wording that is
held out, and counts the answers with all keys of the fact (`words.has_keys`). The seconds are
those of the call of `finetune`, the encoding of the records among them; asking is timed apart.
Settings are to be chosen by the validation wording (`--split validation`), which is not trained on
either, so that the test wording stays unseen.
"""

from __future__ import annotations

import argparse
import dataclasses

from common import timed

from llmcourse import company, models
from llmcourse.finetuning import Config, finetune
from llmcourse.generation import generate
from llmcourse.words import has_keys

SETTINGS = Config(template="qa", epochs=5, learning_rate=2e-3, rank=64, batch_size=6, warmup=10)
LONGEST = 48  # tokens of an answer; those of the company have 30 words at most


def chosen(count: int) -> dict[str, list[str]]:
    """The keys of `count` facts, taken evenly from all documents, by the fact's id."""
    facts = company.records("facts")
    return {fact["id"]: fact["keys"] for fact in facts[:: len(facts) // count][:count]}


def right(model: models.LoadedModel, questions: list[dict], keys: dict[str, list[str]]) -> int:
    """How many questions the model answers with every key of their fact."""
    answers = generate(
        model,
        [question["question"] for question in questions],
        max_new_tokens=LONGEST,
        batch_size=50,
        progress=False,
    )
    return sum(
        has_keys(answer.text, keys[question["fact"]])
        for answer, question in zip(answers, questions, strict=True)
    )


def main() -> None:
    """Train with each seed, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--facts", type=int, default=50)
    parser.add_argument("--epochs", type=float, default=SETTINGS.epochs)
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    options = parser.parse_args()
    keys = chosen(options.facts)
    train, held_out = (
        [question for question in company.records("questions", split) if question["fact"] in keys]
        for split in ("train", options.split)
    )
    model = models.load("smollm2-135m-instruct")
    before, _ = timed(lambda: right(model, held_out, keys))
    settings = dataclasses.replace(SETTINGS, epochs=options.epochs)
    usual = {field.name: field.default for field in dataclasses.fields(Config)}
    print(
        f"{model.title}, {model.dtype}; {len(keys)} facts, {len(train)} training records; "
        f"{before} of {len(held_out)} right before. Config("
        + ", ".join(
            f"{name}={value!r}"
            for name, value in vars(settings).items()
            if name in ("epochs", "learning_rate", "rank", "batch_size", "template")
            or value != usual[name]
        )
        + ")"
    )
    print(
        "\n| seed | training, seconds | updates | tokens a second | right, held-out wording | "
        "asking, seconds |\n|---|---|---|---|---|---|"
    )
    for seed in options.seeds:
        config = dataclasses.replace(settings, seed=seed)
        tuned, seconds = timed(lambda: finetune(model, train, config, progress=False))  # noqa: B023
        found, asking = timed(lambda: right(tuned, held_out, keys))  # noqa: B023
        print(
            f"| {seed} | {seconds:.0f} | {len(tuned.history)} | {tuned.tokens_per_second:.0f} | "
            f"{found} of {len(held_out)} ({found / len(held_out):.0%}) | {asking:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
