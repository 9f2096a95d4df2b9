"""Client apps before they run: what an app has to be, its archive, and how one reaches a worker.

    faults.py      what is wrong with an app
    manifest.py    manifest.yml: name, version, description, parameters, shared
    parameters.py  the parameters that an app declares, and the values that a plan gives for them
    archive.py     the zip archive of an app: checked, packed, unpacked
    cache.py       archives from Redis, verified and unpacked in a folder of the worker
    asking.py      what crosses to and from a process that asks an app for one request

All but cache.py is shared with the controller. What runs an app is engine/http/client_app.py.
"""
