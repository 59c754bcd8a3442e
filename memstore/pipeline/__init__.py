"""Pipeline: the verbs that read or change a whole memory."""
