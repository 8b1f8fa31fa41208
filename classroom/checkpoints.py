"""What lessons make, kept for learners who fall behind: `python -m llmcourse catch-up 05`.

python -m llmcourse run --tier cpu      makes it, in the work folder
python -m classroom.checkpoints         copies it from there to checkpoints/, by lesson
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from llmcourse import workshop
from llmcourse.errors import CourseError, DataError
from llmcourse.files import shown, work_dir
from llmcourse.finetuning.checkpoints import PUBLISHED
from llmcourse.finetuning.tuned import is_saved

# By lesson, in the work folder. A folder is a finished training; others need only its adapter.
MADE = {
    "03": ("data/desk.jsonl",),
    "04": tuple(
        f"data/company-{split}.{ending}"
        for split in ("train", "validation")
        for ending in ("jsonl", "parquet")
    ),
    "05": ("runs/05-facts",),
    "06": ("models/06-desk-cpu", "models/06-taught-cpu"),
    "07": ("models/07-taught-cpu", "models/07-reader-cpu"),
    "08": ("models/08-own",),
}


def copy(target: Path) -> None:
    """Copy what the lessons made into `target`, in place of what is there.

    Raises:
        DataError: something is missing, or was put there by `catch-up`; nothing is copied.
    """
    work = work_dir()
    for lesson, names in MADE.items():
        for made in (work / name for name in names):
            if (made / PUBLISHED).exists():
                raise DataError(
                    f"{shown(made)} came by catch-up. Remove it and run lesson {lesson} again."
                )
            if not (made.is_file() or is_saved(made)):
                raise DataError(
                    f"{shown(made)} is missing. Run lesson {lesson} first: python -m llmcourse run "
                    f"--tier cpu {lesson}"
                )
    shutil.rmtree(target, ignore_errors=True)
    for lesson, names in MADE.items():
        for name in names:
            made, place = work / name, target / lesson / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if made.is_file():
                shutil.copyfile(made, place)
            else:
                shutil.copytree(made, place, ignore=shutil.ignore_patterns(".*"))
                (place / PUBLISHED).touch()


if __name__ == "__main__":
    try:
        copy(workshop.CHECKPOINTS)
        print(f"They are in {workshop.CHECKPOINTS}.")
    except CourseError as error:
        sys.exit(f"error: {error}")
