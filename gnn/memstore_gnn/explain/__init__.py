"""Why a rollout has its score: each thing that may have moved it is taken away, and the rollout scored again."""
