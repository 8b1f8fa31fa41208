"""Each widget in JupyterLab, used as a person would: mouse, keyboard alone, and reading it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from llmcourse.data.reviewing import save_for_review
from llmcourse.widgets import CHOICES
from tests.browser import driving
from tests.browser.conftest import AXE, DESKTOP, LAPTOP, SHOTS, Lab

OUTPUT = ".jp-OutputArea-output"
PAIRS = [
    {"question": "How tall is it?", "answer": "It is 23 cm tall.", "source": "It is 23 cm tall."},
    {"question": "What is <b>it</b>?", "answer": "A kettle", "source": "The Ambra is a kettle."},
    {"question": "Where is it made?", "answer": "In Quillon.", "source": "Made in Quillon Lane."},
]
ANSWERS = {"base": ["Mars is. Mars is.", "<b>No</b>", "7"], "tuned": ["Mars is red.", "No.", "8"]}
QUESTIONS = ["What is Mars?", "Is it wet?", "Three and five?"]


def opened(lab: Lab, page: Page, name: str, *sources: str) -> None:
    """Write a notebook of one code cell a source, open it and run it."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, lab.folder / f"{name}.ipynb")
    driving.open_notebook(page, lab.link(f"{name}.ipynb"))
    driving.run_all(page, seconds=180)


def looked_at(page: Page, name: str) -> None:
    """Keep pictures at three looks, and fail on what shuts people out."""
    folder = SHOTS / "widgets"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}-desktop.png")
    page.set_viewport_size(LAPTOP)
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"{name}-laptop.png")
    page.set_viewport_size(DESKTOP)
    found = driving.violations(page, AXE, [OUTPUT], [])
    driving.theme(page, "JupyterLab Dark")
    page.screenshot(path=folder / f"{name}-dark.png")
    found += driving.violations(page, AXE, [OUTPUT], [])
    driving.theme(page, "JupyterLab Light")
    assert not found, "\n".join(found)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def box(page: Page, label: str) -> Locator:
    return page.locator(OUTPUT).get_by_label(label, exact=True)


def status(page: Page, text: str, seconds: float = 30) -> None:
    """Wait until a line that screen readers read out says so."""
    line = page.locator(f"{OUTPUT} [role=status]", has_text=text).first
    expect(line).to_be_visible(timeout=seconds * 1000)


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until `target` has the keyboard."""
    expect(target).to_be_visible()
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail("Tab does not reach it.")


def tab_from_the_cell(page: Page) -> None:
    """Leave the editors with Escape, as a person with a keyboard does, at the first output."""
    page.locator(OUTPUT).first.evaluate("element => { element.tabIndex = -1; element.focus(); }")


def lines(file: Path, page: Page, count: int) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, as soon as there are `count`."""
    for _ in range(100):
        if file.exists() and len(file.read_text("utf-8").splitlines()) >= count:
            break
        page.wait_for_timeout(100)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_chat(lab: Lab, page: Page) -> None:
    opened(
        lab,
        page,
        "chat",
        "from llmcourse import models\nfrom llmcourse.widgets import Chat\n\n"
        "chat = models.load('chat')\ntalk = Chat({'one': chat, 'two': chat}, 'What is tea?')\ntalk",
        "len(talk.answers)",
    )
    sides = page.locator(f"{OUTPUT} section")
    box(page, "Longest answer, tokens").fill("12")
    box(page, "Right").select_option("two")
    press(page, "Ask both")
    status(page, "Done.", 60)
    expect(sides).to_have_count(2)
    first, second = sides.all_inner_texts()
    assert first.removeprefix("one") == second.removeprefix("two") and len(first) > 10
    status(page, "one: ")
    looked_at(page, "chat")
    # Stop ends a long answer; until then the kernel does other things too.
    box(page, "Longest answer, tokens").fill("2000")
    box(page, "Prompt").fill("Count from 1 to 1000.")
    press(page, "Ask both")
    status(page, "Answering.")
    second = page.locator(".jp-CodeCell").nth(1)
    second.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    expect(second.locator(OUTPUT)).to_have_text("2", timeout=30_000)  # the two answers before
    press(page, "Stop")
    status(page, "stopped by you", 60)
    status(page, "Stopped.")
    # With the keyboard alone. A list is opened first: its arrows are the notebook's otherwise.
    tab_from_the_cell(page)
    for arrow, name in (("ArrowDown", "two"), ("ArrowUp", "one")):
        tab_to(page, box(page, "Left"))
        for key in ("Space", arrow, "Enter"):
            page.keyboard.press(key)
        expect(box(page, "Left")).to_have_value(name)
    tab_to(page, box(page, "Prompt"))
    page.keyboard.press("Control+a")
    page.keyboard.type("<b>Bold</b>?")
    tab_to(page, box(page, "Longest answer, tokens"))
    page.keyboard.press("Control+a")
    page.keyboard.type("3")
    tab_to(page, page.get_by_role("button", name="Ask both"))
    page.keyboard.press("Space")
    status(page, "Done.", 60)


def test_template_playground(lab: Lab, page: Page) -> None:
    opened(
        lab,
        page,
        "playground",
        "from llmcourse import models\nfrom llmcourse.widgets import TemplatePlayground\n\n"
        "records = [{'question': 'Shorten this.', 'input': 'The kettle is tall.', 'answer': 'T.'},"
        " {'question': 'Second?', 'answer': 'Yes.'}]\n"
        "TemplatePlayground(models.load_tokenizer('chat'), records, 'alpaca')",
    )
    shown = page.locator(f"{OUTPUT} section").first
    expect(shown).to_contain_text("### Instruction:")
    expect(shown).to_contain_text("The kettle is tall.")
    box(page, "Template").select_option("chat")
    expect(shown).to_contain_text("<|im_start|>")
    looked_at(page, "playground")
    tab_from_the_cell(page)
    tab_to(page, box(page, "Question"))
    page.keyboard.press("Control+a")
    page.keyboard.type("<script>alert(1)</script>")
    expect(shown).to_contain_text("<script>alert(1)</script>")
    assert not page.locator(f"{OUTPUT} section script").count()
    tab_to(page, box(page, "Show blanks and line ends"))
    page.keyboard.press("Space")
    expect(box(page, "Show blanks and line ends")).to_be_checked()
    box(page, "Record (of 2)").fill("2")
    page.keyboard.press("Tab")
    expect(shown).to_contain_text("Second?")


def test_token_explorer(lab: Lab, page: Page) -> None:
    opened(
        lab,
        page,
        "tokens",
        "from llmcourse import models\nfrom llmcourse.widgets import TokenExplorer\n\n"
        "TokenExplorer(models.load_tokenizer('base'), ['The kettle is hot.', 'Why?'])",
    )
    rows = page.locator(f"{OUTPUT} section")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("of padding")
    looked_at(page, "tokens")
    tab_from_the_cell(page)
    tab_to(page, box(page, "Texts, one a line"))
    page.keyboard.press("Control+End")
    page.keyboard.press("Enter")
    page.keyboard.type("<i>Three</i>")
    expect(rows).to_have_count(3)
    assert not rows.nth(2).locator("i").count()
    tab_to(page, box(page, "Most tokens (0: no limit)"))
    page.keyboard.press("Control+a")
    page.keyboard.type("4")
    page.keyboard.press("Tab")
    expect(rows.first).to_contain_text("cut off")
    box(page, "Most tokens (0: no limit)").fill("0")
    box(page, "Pad on the").select_option("left")
    expect(rows.nth(1).locator("span").first).to_have_attribute("title", "padding, id 0, mask 0")


def test_training_monitor(lab: Lab, page: Page) -> None:
    opened(
        lab,
        page,
        "monitor",
        "from llmcourse import company, models\nfrom llmcourse.finetuning import Config\n"
        "from llmcourse.widgets import TrainingMonitor\n\n"
        "records = company.records('questions', 'train')[:4]\n"
        "monitor = TrainingMonitor(models.load('chat'), records, Config(steps=48, batch_size=1),"
        " held_out=records[:1], sample_prompts=records[0]['question'], eval_steps=9,"
        " out='monitor-run')\nmonitor",
    )
    status(page, "Not begun.")
    press(page, "Train")
    expect(page.locator(OUTPUT).get_by_text("of 48 updates")).to_be_visible(timeout=90_000)
    press(page, "Stop and save")
    status(page, "Stopped.", 60)
    expect(page.locator(f"{OUTPUT} img[alt]")).to_have_count(1)  # the picture comes after the line
    tab_from_the_cell(page)
    tab_to(page, page.get_by_role("button", name="Train", exact=True))
    page.keyboard.press("Enter")
    status(page, "Finished. 48 of 48 updates.", 120)
    expect(page.locator(OUTPUT).get_by_text("Held-out loss")).to_be_visible()
    looked_at(page, "monitor")


def test_error_browser(lab: Lab, page: Page) -> None:
    file = lab.folder / "labels.jsonl"
    opened(
        lab,
        page,
        "errors",
        "from llmcourse import company, models\nfrom llmcourse.evaluation import evaluate\n"
        "from llmcourse.widgets import ErrorBrowser\n\n"
        "records = company.records('questions', 'test', keys=True)[:3]\n"
        "found = evaluate(models.load('chat'), records, max_new_tokens=8)\n"
        f"ErrorBrowser(found, {str(file)!r})",
    )
    status(page, "1 of 3, record 0, labelled by the rules")
    looked_at(page, "errors")
    box(page, "too long").check()
    assert "too long" in str(lines(file, page, 1))
    status(page, "labelled by me")
    tab_from_the_cell(page)
    tab_to(page, page.get_by_role("button", name="Next"))
    page.keyboard.press("Space")
    status(page, "2 of 3")
    tab_to(page, page.get_by_role("button", name="Labels are right"))
    page.keyboard.press("Space")
    status(page, "3 of 3")
    assert len(lines(file, page, 2)) >= 2
    box(page, "Show").select_option(label="too long (1)")
    status(page, "1 of 1")


def kept(file: Path) -> list[tuple[str, str]]:
    """What was decided on each pair, and its answer."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return [(row["keep"], row["answer"]) for row in csv.DictReader(stream)]


def test_pair_review(lab: Lab, page: Page) -> None:
    file = save_for_review(PAIRS, lab.folder / "pairs.csv")
    opened(
        lab,
        page,
        "review",
        f"from llmcourse.widgets import PairReview\n\nPairReview({str(file)!r})",
    )
    status(page, "Pair 1 of 3, open.")
    looked_at(page, "review")
    # With the keyboard alone: accept, mend and accept, reject.
    tab_from_the_cell(page)
    tab_to(page, box(page, "Keys"))
    page.keyboard.type("a")
    status(page, "Pair 2 of 3")
    page.keyboard.type("e")
    expect(box(page, "Answer")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("A kettle.")
    tab_to(page, page.get_by_role("button", name="Accept"))
    page.keyboard.press("Space")
    status(page, "Pair 3 of 3")
    press(page, "Reject")
    status(page, "All 3 pairs are decided on")
    decided = [("yes", "It is 23 cm tall."), ("yes", "A kettle."), ("no", "In Quillon.")]
    assert kept(file) == decided
    press(page, "Back one")
    status(page, "Pair 3 of 3, rejected.")


def test_pair_review_while_the_kernel_is_busy(lab: Lab, page: Page) -> None:
    file = save_for_review(PAIRS, lab.folder / "busy.csv")
    opened(
        lab,
        page,
        "busy",
        f"from llmcourse.widgets import PairReview\n\nPairReview({str(file)!r})",
        "import time\n\ntime.sleep(4)",
    )
    status(page, "Pair 1 of 3, open.")
    page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    box(page, "Answer").click()
    page.keyboard.press("Control+a")
    page.keyboard.type("No word of this is lost.")
    press(page, "Accept")
    status(page, "Pair 2 of 3")
    assert kept(file)[0] == ("yes", "No word of this is lost.")


def test_quiz(lab: Lab, page: Page) -> None:
    opened(lab, page, "quiz", "from llmcourse import exercises\n\nexercises.quiz('01')")
    total = page.locator(f"{OUTPUT} [role=status]", has_text="solved so far")
    expect(total).to_contain_text("0 of")
    tab_from_the_cell(page)
    letters = page.locator('button[title^="Question 1, answer"]')
    assert letters.count() > 1
    for place in range(letters.count()):
        tab_to(page, letters.nth(place))
        page.keyboard.press("Space")
        status(page, f"{'ABCDE'[place]}. ")
    looked_at(page, "quiz")
    kept = json.loads((lab.work / "progress.json").read_text("utf-8"))["quizzes"]
    assert list(kept) == ["01-q1"]
    right = sum(row["right"] for row in kept.values())  # the last one chosen counts
    expect(total).to_contain_text(f"{right} of")


def test_blind_vote(lab: Lab, page: Page) -> None:
    """With the mouse first, then with the keyboard alone."""
    file, made = lab.folder / "votes.jsonl", f"BlindVote({QUESTIONS!r}, {ANSWERS!r}, 'votes.jsonl')"
    opened(lab, page, "vote", f"from llmcourse.widgets import BlindVote\n\n{made}")
    status(page, "1 of 3")
    looked_at(page, "vote")
    for number, choice in enumerate(("left", "right"), start=1):
        status(page, f"{number} of 3")
        press(page, CHOICES[choice])
        assert len(lines(file, page, number)) == number
    status(page, "3 of 3")
    tab_from_the_cell(page)
    for choice, then in (("equal", "All 3 pairs are voted on."), ("back", "3 of 3")):
        name = {**CHOICES, "back": "Back one"}[choice]
        tab_to(page, page.get_by_role("button", name=name))
        page.keyboard.press("Space")
        status(page, then)
        kept = [row["vote"] for row in lines(file, page, 3)]
        assert kept == ["left", "right", "equal"]
    press(page, CHOICES["bad"])
    status(page, "All 3 pairs are voted on.")
    for choice in CHOICES.values():
        expect(page.get_by_role("button", name=choice)).to_be_disabled()
    assert sorted(row["vote"] for row in lines(file, page, 3)) == ["bad", "left", "right"]
