"""An experience memory for reinforcement learning of language models."""
