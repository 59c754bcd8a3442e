// A query is its text: the names that sources give it are IN edges. A policy at a step is a node, and an answer has the
// verdict of its labels. Nodes of every kind can influence a score. `memstore migrate` moves the data of schema 1.
CREATE NODE TABLE Dataset(id STRING PRIMARY KEY, name STRING);
CREATE REL TABLE `IN`(FROM Query TO Dataset, key STRING, split STRING);
CREATE NODE TABLE Policy(id STRING PRIMARY KEY, name STRING, step INT64);
CREATE REL TABLE WROTE(FROM Policy TO Thinking);
CREATE REL TABLE RELIABLE_IN(
    FROM Policy TO Dataset, reliability DOUBLE, low DOUBLE, high DOUBLE, votes INT64, judged INT64,
    estimated_at TIMESTAMP_TZ
);
ALTER TABLE Answer ADD verdict DOUBLE;
ALTER TABLE Answer ADD verdict_source STRING;
ALTER TABLE Answer ADD verdict_at TIMESTAMP_TZ;
ALTER TABLE SCORED_BY ADD source STRING;
ALTER TABLE Query DROP key;
ALTER TABLE Query DROP dataset;
ALTER TABLE Thinking ADD dataset STRING;
ALTER TABLE INFLUENCED_BY ADD FROM Thinking TO Answer;
ALTER TABLE INFLUENCED_BY ADD FROM Thinking TO Policy;
ALTER TABLE INFLUENCED_BY ADD FROM Thinking TO RewardModel;
ALTER TABLE INFLUENCED_BY ADD effect DOUBLE;
