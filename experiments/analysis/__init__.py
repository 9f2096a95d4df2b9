"""What was measured: account, statistics, health of the generator, verdict and report. Nothing here writes."""
