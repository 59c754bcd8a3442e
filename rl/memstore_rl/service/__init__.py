"""The reward service: one process that owns a memory, its embedder and a reward model, and answers over HTTP.

wire.py       what goes over the wire, validated at the edge
batching.py   requests that wait are scored together; when too many wait, the next is refused
journal.py    what was answered, on disk before the answer leaves
recorder.py   from the journal into the memory, off the scoring path
texts.py      vectors of texts: from the memory's cache, from those still to be recorded, or embedded
app.py        routes, authorisation, health, metrics
serve.py      the process: start, signals, graceful stop
client.py     sync and async clients with retries and a deadline
"""
