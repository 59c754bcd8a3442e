// Queries, rollouts, answers, runs, reward models and their relationships.
CREATE NODE TABLE Query(
    id STRING PRIMARY KEY, key STRING, text STRING, dataset STRING, domain STRING, gold STRING, vector_key STRING,
    linked STRING, batch STRING
);
CREATE NODE TABLE Thinking(
    id STRING PRIMARY KEY, text STRING, query_key STRING, policy STRING, run STRING, step INT64, sample_index INT64,
    mean_logprob DOUBLE, finish_reason STRING, reward DOUBLE, reward_source STRING, metadata STRING,
    created_at TIMESTAMP_TZ, vector_key STRING, linked STRING, batch STRING
);
CREATE NODE TABLE Answer(id STRING PRIMARY KEY, text STRING, value STRING);
CREATE NODE TABLE Run(id STRING PRIMARY KEY, name STRING, policy STRING);
CREATE NODE TABLE RewardModel(
    id STRING PRIMARY KEY, version INT64, snapshot STRING, metrics STRING, path STRING, created_at TIMESTAMP_TZ
);
CREATE NODE TABLE Batch(
    id STRING PRIMARY KEY, source STRING, state STRING, rows INT64, rejected INT64, created_at TIMESTAMP_TZ
);
CREATE REL TABLE GENERATES(FROM Query TO Thinking);
CREATE REL TABLE LEADS_TO(FROM Thinking TO Answer, text STRING);
CREATE REL TABLE PRODUCED(FROM Run TO Thinking);
CREATE REL TABLE SIMILAR_TO(FROM Query TO Query, FROM Thinking TO Thinking, score FLOAT);
CREATE REL TABLE SCORED_BY(FROM Thinking TO RewardModel, probability DOUBLE, reward DOUBLE, scored_at TIMESTAMP_TZ);
CREATE REL TABLE INFLUENCED_BY(FROM Thinking TO Query, FROM Thinking TO Thinking, weight DOUBLE, model STRING);
