"""Every test, notebooks among them, runs on the smoke tier with a ledger and files of its own."""

import os
import tempfile

os.environ.setdefault("LLMCOURSE_TIER", "smoke")
os.environ["LLMCOURSE_WORK"] = tempfile.mkdtemp(prefix="llmcourse-test-work-")
# Debuggers warn about frozen modules when notebooks' kernels start.
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
