"""What can be asked for under `/api/v1`, a file for each kind of thing, and how the tier is, at the root."""
