"""The Django app of experiments: models, services (all writes), selectors (all reads), tasks, API and admin."""
