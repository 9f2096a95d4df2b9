"""Plans: the pydantic models of a plan and of a group's commands, which define every key once."""

from experiments.plans.parsing import PlanInvalid, load_yaml
from experiments.plans.plan import Plan, parse
from experiments.plans.workload import GroupWorkload, SharedKeys, Workload, parse_group

__all__ = ["GroupWorkload", "Plan", "PlanInvalid", "SharedKeys", "Workload", "load_yaml", "parse", "parse_group"]
