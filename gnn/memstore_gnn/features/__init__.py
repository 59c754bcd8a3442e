"""Numbers about rollouts: what the group, the text and the memory's labels say, without any model."""
