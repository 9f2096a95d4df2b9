"""Client apps before they run: manifest, archive, parameters, and the way to a worker.

    faults.py      what is wrong with an app
    manifest.py    manifest.yml: name, version, description, parameters, shared
    parameters.py  the parameters that an app declares, and the values that a plan gives for them
    archive.py     the zip archive of an app: checked, packed, unpacked
    cache.py       archives from Redis, verified and unpacked in a folder of the worker
    asking.py      what crosses to and from a process that asks an app for one request

All but cache.py is shared with the controller. engine/client_app.py runs an app.
"""
