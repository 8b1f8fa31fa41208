"""What only a teacher or a server of a class needs; learners' commands are in `llmcourse/`."""
