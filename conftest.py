"""Every test, notebooks among them, runs on the smoke tier with a ledger and files of its own."""

import atexit
import os
import shutil
import tempfile

os.environ["LLMCOURSE_TIER"] = "smoke"
for setting in ("LLMCOURSE_MODELS", "LLMCOURSE_DTYPE", "LLMCOURSE_DEVICE"):
    os.environ.pop(setting, None)
os.environ["LLMCOURSE_WORK"] = tempfile.mkdtemp(prefix="llmcourse-test-work-")
atexit.register(shutil.rmtree, os.environ["LLMCOURSE_WORK"], ignore_errors=True)
# Debuggers warn about frozen modules when notebooks' kernels start.
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
