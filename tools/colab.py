"""Write requirements-colab.txt: the versions of a Colab runtime for what the course touches there.

    python tools/colab.py FREEZE

`FREEZE` is the list that Colab publishes of its packages (`pip-freeze*.txt` of the repository
googlecolab/backend-info). Kept of it are the packages that we or our dependencies need, and those
that our direct dependencies import where they are installed: an old torchao once broke peft so.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OUT = Path(__file__).resolve().parent.parent / "requirements-colab.txt"
HEADER = """\
# A Colab runtime's versions (GPU, Python 3.13, {name}) of what the course
# touches, optional imports of its dependencies included; made by `python tools/colab.py`.
# `make test-colab` runs the tests on them.
"""
# Import -> package, where the names differ and the package may not be installed here.
NAMES = {"PIL": "pillow", "cv2": "opencv-python", "google": "protobuf", "sklearn": "scikit-learn"}
# Installers; and what is only used when it is handed over (Spark's frames, a catalogue's tables).
LEFT_OUT = {"pip", "setuptools", "wheel", "pyspark", "pyiceberg"}
_IMPORT = re.compile(
    r"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)"
    r"|(?:find_spec|import_module|_is_package_available|importorskip)\(\s*[\"'](\w+)",
    re.M,
)


def main() -> int:
    source = Path(sys.argv[1])
    lines = source.read_text(encoding="utf-8").splitlines()
    frozen = {canonicalize_name(line.split("==")[0]): line for line in lines if "==" in line}
    direct = needed("llmcourse", ("lab", "hosted"))
    closure, pending = set(direct), list(direct)
    while pending:
        more = needed(pending.pop()) - closure
        closure |= more
        pending += more
    for name in direct:
        closure |= optional(name)
    # (the build for a GPU has a version of its own, as 2.11.0+cu128)
    kept = [line.split("+")[0] for name, line in frozen.items() if name in closure - LEFT_OUT]
    text = HEADER.format(name=source.stem) + "\n".join(kept) + "\n"
    OUT.write_text(text, encoding="utf-8", newline="\n")
    print(f"{OUT.name}: {len(kept)} of {len(frozen)} packages")
    return 0


def needed(name: str, extras: tuple[str, ...] = ("",)) -> set[str]:
    """What an installed package requires."""
    try:
        requirements = map(Requirement, distribution(name).requires or [])
    except PackageNotFoundError:
        return set()
    return {
        canonicalize_name(one.name)
        for one in requirements
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    }


def optional(name: str) -> set[str]:
    """The packages that an installed package's modules import, anywhere in them."""
    known, found = packages_distributions(), set()
    for file in distribution(name).files or ():
        if file.suffix == ".py" and "tests" not in file.parts:
            text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
            found |= {first or second for first, second in _IMPORT.findall(text)}
    return {
        canonicalize_name(package)
        for module in found
        for package in [*known.get(module, ()), NAMES.get(module, module)]
    }


if __name__ == "__main__":
    sys.exit(main())
