"""Words of edits."""
