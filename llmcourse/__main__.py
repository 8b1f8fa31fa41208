"""`python -m llmcourse`."""

import sys

try:
    from llmcourse.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: the package {error.name} is missing in {sys.executable}. Use the course's own "
        "Python (activate .venv first), or set it up with: python3 install.py"
    )
sys.exit(main())
