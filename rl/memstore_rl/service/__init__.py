"""The reward service: one process that owns a memory, its embedder and a reward model, and scores groups over HTTP.

wire.py       request and response documents, validated at the edge
batching.py   dynamic batching with a bounded queue
journal.py    durable queue of scored rollouts
recorder.py   writes the journal to the memory, off the scoring path
retraining.py trains the reward model again in a process of its own, and takes it up
texts.py      vectors of texts: from the memory's cache, from those not recorded yet, or embedded
service.py    scorer, batcher and journal together, without HTTP
clients.py    fair shares of verification by client
app.py        routes, authorization, health, metrics
protocol.py   the HTTP protocol of the server with its limits
serve.py      the server process: start, signals, graceful shutdown
client.py     synchronous and asynchronous clients with retries and a deadline
logs.py       JSON logs
metrics.py    Prometheus metrics
live.py       what the pages read of a running service
"""
