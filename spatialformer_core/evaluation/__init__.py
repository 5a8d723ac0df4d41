"""Splits, baselines and benchmark suites: every score beside the trivial answer."""
