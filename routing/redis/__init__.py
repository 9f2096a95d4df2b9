"""The routing table in Redis: its keys, the projection of the database, and keeping the two in step."""
