"""One machine's Galileo: starts, watches and stops every process that it needs. Django runs in children only."""
