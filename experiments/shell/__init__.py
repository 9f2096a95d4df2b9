"""The controller shell's objects, also for programs and notebooks: `from experiments.shell import g, rtbl, exp`."""

import os

import django
from django.apps import apps

if not apps.ready:  # imported by a program, not by manage.py
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")
    django.setup()

from time import sleep

from experiments.shell.commands import env, pwd, usage
from experiments.shell.experiment import Experiment
from experiments.shell.galileo import Galileo
from experiments.shell.rtbl import ServiceRoutingTable
from experiments.shell.show import Show
from experiments.shell.telemd import Telemd

g = Galileo()
show = Show()
exp = Experiment()
rtbl = ServiceRoutingTable()
telemd = Telemd()

__all__ = ["env", "exp", "g", "pwd", "rtbl", "show", "sleep", "telemd", "usage"]
