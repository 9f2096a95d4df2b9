"""Examples: a web service to load, a client app that loads it, and experiment plans."""
