"""ROW_TYPE: numpy's type of a trace row, whose columns are those of loadgen/protocol/trace_batch.py."""

from __future__ import annotations

import numpy as np

from loadgen.protocol.trace_batch import COLUMNS

ROW_TYPE = np.dtype([(name, f"<{code}") for name, code in COLUMNS.items()])
