"""The reward model: a calibrated prior on structure, and attention over the graph as a correction of it."""
