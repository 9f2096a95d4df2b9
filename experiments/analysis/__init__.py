"""Results of experiments: account, statistics, health of the generator, verdict and report. Nothing here writes."""
