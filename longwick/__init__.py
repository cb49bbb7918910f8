"""The record of Longwick and the few tools to reach it; knows none of the tiers built on it."""

__version__ = "0.1.0"
