"""What a device tells of itself while it works: the telemetry that telemd would publish, from the worker's agent.

instruments  what is measured, and how
node         what the device is
publisher    the thread that measures and publishes, and obeys `pause` and `unpause`
"""
