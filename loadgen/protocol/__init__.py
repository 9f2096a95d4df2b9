"""The messages on the wire, and the settings and small helpers that controller and workers share.

No connection is made here.
"""
