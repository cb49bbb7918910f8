"""Tier 1: accepts requests and answers from the record, streams events, serves the page. It runs no agent."""
