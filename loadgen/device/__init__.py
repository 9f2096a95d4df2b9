"""This machine: its clock, cores and processes, the spool on its disk, its registration, its Redis connections."""
