"""The published run: every claim of the course, measured once with enough questions and seeds."""
