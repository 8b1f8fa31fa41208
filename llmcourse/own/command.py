"""The command `python -m llmcourse own FOLDER --out DIR`."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "source", metavar="SOURCE", help="a folder of documents, or a file of pairs (.csv, .jsonl)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where everything goes")
    parser.add_argument("--base", metavar="NAME", help="the model to tune (default: the tier's)")
    parser.add_argument("--test", metavar="FILE", help="test pairs (default: a fifth of the pairs)")
    what = "what the test asks: trained facts in other words, other facts, or other questions"
    parser.add_argument("--hold-out", choices=("wordings", "facts", "questions"), help=what)
    parser.add_argument("--epochs", type=float, metavar="N", help="how often every pair is seen")
    parser.add_argument(
        "--review", action="store_true", help="stop after pairs.csv is written, to correct it"
    )


def main(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 failed, 130 interrupted.
    """
    from llmcourse import own
    from llmcourse.finetuning import TrainingStopped

    if options.review:
        path = own.write_pairs(options.source, options.out, base=options.base)
        print(
            f"Read {path} in a spreadsheet: correct questions and answers, write no under keep "
            f"where a pair is bad, and save it as CSV. Then run the same without --review."
        )
        return 0
    try:
        how = {"test": options.test, "hold_out": options.hold_out, "epochs": options.epochs}
        result = own.run(options.source, options.out, base=options.base, **how)
    except TrainingStopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return 130 if stopped.by_user else 1
    print(result.assessment.table().to_string())
    for line in own.advice(result):
        print(f"- {line}")
    return 0
