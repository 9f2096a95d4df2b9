"""Weighted routing of requests: the balancer, the routing table in Redis, and its truth in the database."""
