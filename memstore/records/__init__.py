"""Records: rows of rollout files, validated and converted to columns."""
