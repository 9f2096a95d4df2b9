"""The REST API under /api: thin views over services and selectors.

parsing      JSON bodies, bounded
problems     errors as JSON responses
permissions  who may do what
serializers  what is shown of experiments and workers
apps         the repository of client apps
views        the resources
telemetry    telemetry and the timeline of an experiment
"""
