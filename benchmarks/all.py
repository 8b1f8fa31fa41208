"""Run the benchmarks that compare with what people would use instead, and write RESULTS.md.

    make bench          half an hour on two cores

Nothing else should run beside it. Each script's first lines say what it measures; without trl or
llama.cpp their columns are left out.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

from experiments.run import environment

HERE = Path(__file__).parent
SCRIPTS = {
    "Answering": ("generation.py",),
    "Training": (
        *("training.py", "--peer-python", sys.executable, "--rounds", "2"),
        *("--records", "60", "--seconds", "15"),
    ),
    "Evaluating": ("evaluation.py",),
    "Learning 50 facts": ("learning.py",),
    "Loading": ("loading.py",),
}


def main() -> None:
    """Run the scripts one after the other; what they print is the page."""
    place = environment()
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    parts = [
        "# Results\n\nOne run of `make bench`. Ratios hold from machine to machine better than "
        "seconds.\n",
        f"- {datetime.date.today().isoformat()}, {place['processor']}, {place['system']}, "
        f"models compute in {place['dtype']}\n- {versions}\n",
    ]
    for title, (script, *more) in SCRIPTS.items():
        shown = ["python", f"benchmarks/{script}", *(m for m in more if m != sys.executable)]
        print(f"{title} …", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / script), *more], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{script} failed:\n{done.stderr}")
        command = " ".join(shown).replace("--peer-python", "--peer-python PYTHON")
        parts.append(f"## {title}\n\n`{command}`\n\n{done.stdout.strip()}\n")
        (HERE / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
