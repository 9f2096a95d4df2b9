"""The worker's second process: heartbeat, forwarding of batches, supervision of shards, trace log and telemetry."""
