"""Records: a row of a file becomes a validated rollout with ids."""
