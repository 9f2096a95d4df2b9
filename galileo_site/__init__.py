"""The Django project: settings, URLs, the controller's Celery app, and the stack that runs it all on one machine."""
