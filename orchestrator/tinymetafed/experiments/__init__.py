"""Experiment and comparison files checked into typed settings; run, compare, plan."""
