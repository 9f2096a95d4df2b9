"""Connections to the broker, for controller and workers: their options, and subscriptions to channels."""
