"""Write requirements.txt anew: the newest versions that `pyproject.toml` admits, for all systems.

    python tools/lock.py

torch and transformers stay as they are pinned; change their pins by hand, then run this.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("torch", "transformers")
# torch's own needs with a GPU: pip gets them with the GPU build, the CPU build has none.
GPU_ONLY = re.compile(r"^(nvidia|cuda|triton)[\w.-]*==")


def main() -> int:
    old = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    header = [line for line in old if line.startswith("#")]
    pins = [line.split()[0] for line in old if line.startswith(tuple(f"{k}==" for k in KEPT))]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        kept.write_text("\n".join(pins) + "\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "uv"], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras",
             "--universal", "--python-version", "3.11", "--constraint", str(kept), "--quiet",
             "--no-header", "--annotation-style", "line"],
            check=True, capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
    lines = [
        re.sub(r" +# via", "  # via", re.sub(r" \(pyproject\.toml\)|-c \S+(, )? ?", "", line))
        for line in done.stdout.splitlines()
        if "==" in line and not GPU_ONLY.match(line)
    ]
    text = "\n".join([*header, *lines]) + "\n"
    (ROOT / "requirements.txt").write_text(text, encoding="utf-8", newline="\n")
    print(f"requirements.txt: {len(lines)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
