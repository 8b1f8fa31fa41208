"""The exercises of lesson 01."""

from __future__ import annotations

from typing import Any

from llmcourse import templates
from llmcourse.exercises.base import Exercise, tried


def _repeated_words(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (("a b c d",), 0.0, "No word comes twice, so nothing is repeated."),
            (("no no no no",), 0.75, "Three of the four words stood there before."),
            (("the cat saw the dog",), 0.2, "One of five words, the second 'the', came before."),
            (("No no",), 0.5, "Capitals should not matter: make the words lower case first."),
            (("",), 0.0, "A text without words repeats nothing, and must not divide by zero."),
        ],
    )


def _llama2_prompt(answer: Any) -> str | None:
    wanted = templates.render("What is a lake?", "llama2", system="Be brief.").prompt
    if not isinstance(answer, str):
        return f"A text is wanted, not {type(answer).__name__}."
    given = answer.strip().removeprefix("<s>").strip().replace("\r\n", "\n")
    if given == wanted:
        return None
    if not given.startswith("[INST]"):
        return "The prompt starts with the tag [INST]; everything else stands after it."
    if not given.endswith("[/INST]"):
        return "It ends with the closing tag [/INST]: that tells the model that it is its turn."
    if "<<SYS>>\nBe brief.\n<</SYS>>" not in given:
        return (
            "The system text belongs between <<SYS>> and <</SYS>>, each tag and the text on a "
            "line of its own."
        )
    if "lake" not in given:
        return "The question itself is missing."
    if given.index("lake") < given.index("<<SYS>>"):
        return "The system text comes first, then the question."
    place = next(
        (n for n, (a, b) in enumerate(zip(given, wanted, strict=False)) if a != b),
        min(len(given), len(wanted)),
    )
    return (
        f"Close. It is right up to {given[max(0, place - 12) : place]!r}; then comes "
        f"{given[place : place + 3]!r} where something else belongs. Spaces and line ends count."
    )


def _cut_at_end(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([5, 6, 2, 0, 0], 2), [5, 6], "Keep what stands before the first end token."),
            (([5, 6, 7], 2), [5, 6, 7], "Without an end token everything is kept."),
            (([5, 2, 6, 2], 2), [5], "Only the first end token counts; the rest is not an answer."),
            (([2], 2), [], "An answer may be empty."),
        ],
    )


TASKS = (
    Exercise(
        "01-1",
        "Write `repeated(text)`: the share of words that already came before in the text. "
        "Capitals do not matter; a text without words gives 0.",
        _repeated_words,
        "Section 6 counts runs of four words instead of single ones: that tells a model that "
        "goes in circles from one that merely says 'the' often.",
        ("How many words are there, and how many different ones?",
         "1 - len(set(words)) / len(words), with lower-case words, and 0 for no words."),
        "def repeated(text):\n"
        "    words = text.lower().split()\n"
        "    return 1 - len(set(words)) / len(words) if words else 0.0",
    ),
    Exercise(
        "01-2",
        "Write by hand the Llama 2 prompt for the question 'What is a lake?' with the system "
        "text 'Be brief.'",
        _llama2_prompt,
        "This is what Llama 2's chat models saw in training. Its tokenizer puts one more tag, "
        "<s> for the beginning, before it.",
        ("Look at section 5: print the template with a system text of your own.",
         "[INST], a space, <<SYS>>, a new line, the system text, a new line, <</SYS>>, an "
         "empty line, the question, a space, [/INST]."),
        'prompt = "[INST] <<SYS>>\\nBe brief.\\n<</SYS>>\\n\\nWhat is a lake? [/INST]"',
    ),
    Exercise(
        "01-3",
        "Write `cut(ids, end)`: return the list of token ids before the first `end`, and all "
        "of them where there is none.",
        _cut_at_end,
        "That is how an answer is taken out of a batch, in which short answers are padded.",
        ("A list has a method that finds the place of a value.",
         "ids[: ids.index(end)] if end in ids else ids"),
        "def cut(ids, end):\n    return ids[: ids.index(end)] if end in ids else ids",
    ),
)  # fmt: skip
