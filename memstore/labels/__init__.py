"""Labels by hand: verdicts on answers, their journal, files of labels, and marks of audit queries."""
