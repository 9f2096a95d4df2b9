"""The REST API under /api: thin views over services and selectors, which describe themselves (docs/api.md).

parsing      JSON bodies, bounded
problems     errors, all of one shape
permissions  who may do what
open_access  or everybody everything, in a closed network
throttling   how much of it in a time
schema       views → an OpenAPI document
plan_schema  what that says of plans, groups and commands
serializers  what is shown of experiments and workers
base         what the resources share
pages        what lists share

index        the routes, the schema, the page of its documentation
experiments  experiments; series, traces and telemetry: what belongs to one
groups       interactive client groups
routing      the routing table, and the services that are in it
workers      the live workers
apps         the repository of client apps
"""
