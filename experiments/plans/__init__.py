"""Plans: what an experiment is to do, as its user writes it (YAML or JSON), validated with every error at once.

errors     PlanInvalid and its PlanErrors
document   the bytes of a plan file → plain data
fields     typed reading of plain data, collecting what is wrong
requests   the request of a workload without a client app
placing    which workers a workload's shards run on, and how many shards
routes     routing records, in a plan and on a command line
parser     plain data → Plan
model      Plan and WorkloadPlan
"""

from experiments.plans.document import load_yaml
from experiments.plans.errors import PlanError, PlanInvalid
from experiments.plans.model import Plan, WorkloadPlan
from experiments.plans.parser import parse, parse_about, parse_group

__all__ = ["Plan", "PlanError", "PlanInvalid", "WorkloadPlan", "load_yaml", "parse", "parse_about", "parse_group"]
