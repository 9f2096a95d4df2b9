"""The target's own log compared with the account: did each request arrive, and only once?"""

from experiments.analysis.target_log.compare import compare
from experiments.analysis.target_log.logged_ids import TargetLogError, line_pattern

__all__ = ["TargetLogError", "compare", "line_pattern"]
