"""Tier 3: what agents call back. Four tools over MCP, each call in the right of one attempt's session."""
