"""Trace rows as numpy sees them: the fields of loadgen/protocol/trace_batch.py, without gaps."""

from __future__ import annotations

import numpy as np

from loadgen.protocol.trace_batch import FIELDS

RECORD_TYPE = np.dtype([(name, f"<{code}") for name, code in FIELDS.items()])
