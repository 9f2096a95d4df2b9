"""One attempt of one shard: lease, start, desired state, batches and status, around the engine."""
