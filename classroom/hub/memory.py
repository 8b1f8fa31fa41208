"""What each further learner costs in memory: `python classroom/hub/memory.py --learners 3`.

Learners are processes that import the course, load both models and answer a prompt. Memory is the
proportional set size (PSS): a page that several processes share counts for each by its share, so
that the sum over all of them is what the machine really holds. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

STEPS = ("libraries", "tokenizers", "models", "answers")
LEARNER = """
import ctypes, gc, sys
sys.stdin.readline()
import torch
torch.set_num_threads(1)
from llmcourse import claims, exercises, models, plots, templates, tiers
from llmcourse.generation import generate
import matplotlib.pyplot
def done():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # as the class's kernel does after each cell
    print("done", flush=True)
    sys.stdin.readline()
done()
tokenizers = [models.load_tokenizer(role) for role in models.ROLES]
done()
del tokenizers
loaded = [models.load(role) for role in models.ROLES]
done()
for model in loaded:
    generate(model, ["Mars is"], max_new_tokens=8)
done()
"""


def pss(pids: Iterable[int]) -> dict[str, float]:
    """Memory of some processes together, in MB: `total`, `private` (no other has it), `shared`."""
    total = private = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # it has ended
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        total += sizes["Pss"]
        private += sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"total": total / 1024, "private": private / 1024, "shared": (total - private) / 1024}


def pids_of(uid: int) -> list[int]:
    """The processes of one account."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == uid:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def measure(learners: int) -> list[list[float]]:
    """MB of all learners together; a row for each number of learners, a column for each step."""
    command = [sys.executable, "-c", LEARNER]
    running: list[subprocess.Popen] = []
    table = []
    try:
        for _ in range(learners):
            new = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
            running.append(new)
            row = []
            for step in STEPS:
                new.stdin.write("\n")
                new.stdin.flush()
                if new.stdout.readline() != "done\n":
                    raise RuntimeError(f"A learner stopped at the step {step}; see above.")
                row.append(pss(process.pid for process in running)["total"])
            table.append(row)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()
    if not os.path.exists("/proc/self/smaps_rollup"):  # noqa: PTH110 - not a path to work with
        print("error: this needs Linux, which tells what processes share.", file=sys.stderr)
        return 1
    print("MB of all learners together after each step; then what the last one added")
    print("learners" + "".join(f"{step:>12}" for step in STEPS) + f"{'added':>12}")
    before = 0.0
    for number, row in enumerate(measure(options.learners), 1):
        print(f"{number:8}" + "".join(f"{value:12.0f}" for value in row), end="")
        print(f"{row[-1] - before:12.0f}")
        before = row[-1]
    return 0


if __name__ == "__main__":
    sys.exit(main())
