"""Features: numbers about rollouts from votes, texts, programs and the memory's labels."""
