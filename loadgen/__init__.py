"""The worker: runs shards of client groups on an edge device. Free of Django."""
