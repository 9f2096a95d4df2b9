"""Telemetry of this device, as telemd would publish it, from the worker's agent.

instruments  what is measured, and how
node         what the device is
publisher    the thread that measures and publishes, and obeys `pause` and `unpause`
"""
