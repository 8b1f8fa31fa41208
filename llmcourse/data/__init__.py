"""Records and documents: reading them, with every problem named."""

from llmcourse.data.documents import Passage, from_documents
from llmcourse.data.records import SCHEMAS, Problem, load_records

__all__ = ["SCHEMAS", "Passage", "Problem", "from_documents", "load_records"]
