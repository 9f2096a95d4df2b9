"""Client apps before they run: manifest, archive, parameters, and the cache of a worker.

The controller shares all modules but cache.py. engine/client_app.py runs an app.
"""
