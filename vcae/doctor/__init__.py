"""The corpus doctor: is a corpus fit for training?

`examine` measures every recording in parallel and finds what is wrong, `Examination` holds the findings, and
`vcae.doctor.report` writes a page and a list of files to leave out (`vcae.corpora.exclude`). Nothing is
changed or deleted.
"""

from vcae.doctor.examination import Examination, examine
from vcae.doctor.findings import PROBLEMS, Finding, Limits, Problem
from vcae.doctor.measure import Measurement, measure

__all__ = ["PROBLEMS", "Examination", "Finding", "Limits", "Measurement", "Problem", "examine", "measure"]
