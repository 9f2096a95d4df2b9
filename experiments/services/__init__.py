"""All writes. Views, admin actions, tasks and commands are thin and call these modules.

experiments    create, cancel and delete an experiment
placement      which workers run which clients
waiting        orders in a label's queue, until a worker takes them
desired        the desired state of a client group: the row, and its projection in Redis
dispatch       the one place from which Celery messages leave, after commit
registry       workers, from their heartbeats
reconcile      moves every experiment forward from what is stored; its phases are in `phases`
transitions    conditional status changes
events         the timeline: what happened, and the marks that users set and tools publish
nodes          what publishes telemetry: what it is, and telling it to pause
apps           the repository of client apps, and their way to the workers
"""
