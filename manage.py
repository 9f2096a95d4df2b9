#!/usr/bin/env python
"""Django's command line for Galileo."""

import os
import sys

from django.core.management import execute_from_command_line

from galileo_site.environment import exit_if_wrong

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")
    with exit_if_wrong():
        execute_from_command_line(sys.argv)
