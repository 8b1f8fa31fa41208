"""Records and documents: reading them, looking at them, cleaning and splitting them."""

from llmcourse.data.cleaning import STEPS, Cleaned, clean
from llmcourse.data.documents import Passage, from_documents, read_documents
from llmcourse.data.findings import Finding
from llmcourse.data.formats import SCHEMAS
from llmcourse.data.readers import open_source
from llmcourse.data.records import Problem, as_records, how_read, load_records
from llmcourse.data.report import Report, inspect
from llmcourse.data.saving import save_records
from llmcourse.data.splits import split
