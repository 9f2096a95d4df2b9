"""Telemetry of this device, as telemd would publish it, from the worker's agent."""
