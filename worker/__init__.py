"""Tier 2: runs agents. Claims a run, keeps its lease alive, runs its CLI, and writes down what happens."""
