"""Weighted routing of requests: balancers, the routing table in the database, and its projection in Redis."""
