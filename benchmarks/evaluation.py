"""How much faster is evaluating 100 held-out questions than the course's loop, one at a time?

    python benchmarks/evaluation.py [--model chat] [--questions 100] [--batch 100] [--tokens 40]

Both ask the same questions about Ferrowick with the same limits and score exact match. "One at a
time" is the lab's way, its faults mended: `generate` of the transformers library for one question
after the other. `evaluate` asks in batches, and measures all other scores too. Float32 shows that
the answers are the same; the type that this machine is fastest in shows what one waits for.
"""

from __future__ import annotations

import argparse

import torch
from common import timed

from llmcourse import company, models, templates, tiers
from llmcourse.evaluation import evaluate


def one_at_a_time(model: models.LoadedModel, records: list[dict], tokens: int) -> list[str]:
    """The answers, as the lab's function for a single question makes them."""
    given = []
    for record in records:
        asked = templates.render(record, model.template, tokenizer=model.tokenizer).prompt
        inputs = model.tokenizer(asked, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            out = model.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        written = out[0, inputs["input_ids"].shape[1] :]
        given.append(model.tokenizer.decode(written, skip_special_tokens=True))
    return given


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="chat")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=40)
    options = parser.parse_args()
    records = company.records("questions", "test", keys=True)[: options.questions]
    print("| model | type | one at a time | `evaluate` | ratio | same answers |")
    print("|---|---|---|---|---|---|")
    for dtype in dict.fromkeys((torch.float32, tiers.dtype())):
        model = models.load(options.model, dtype=dtype)
        settings = {"max_new_tokens": options.tokens, "batch_size": options.batch}
        evaluate(model, records[:2], **settings, progress=False)  # warm-up
        result, quick = timed(lambda: evaluate(model, records, **settings, progress=False))  # noqa: B023
        given, slow = timed(lambda: one_at_a_time(model, records, options.tokens))  # noqa: B023
        same = sum(a.text == b for a, b in zip(result.answers, given, strict=True))
        print(
            f"| {model.title} | {str(dtype).removeprefix('torch.')} | {slow:.0f} s | {quick:.1f} s "
            f"| {slow / quick:.1f} | {same} of {len(records)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
