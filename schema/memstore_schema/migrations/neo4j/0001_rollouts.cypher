// Queries, rollouts, answers, runs, reward models and their relationships. Neo4j needs keys only.
CREATE CONSTRAINT memstore_query IF NOT EXISTS FOR (n:Query) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_thinking IF NOT EXISTS FOR (n:Thinking) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_answer IF NOT EXISTS FOR (n:Answer) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_run IF NOT EXISTS FOR (n:Run) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_reward_model IF NOT EXISTS FOR (n:RewardModel) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_batch IF NOT EXISTS FOR (n:Batch) REQUIRE (n.namespace, n.id) IS UNIQUE;
