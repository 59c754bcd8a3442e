// Constraints for the nodes that record migrations, settings and namespaces, and for the nodes that writers and linking
// processes lock. They exist before the first migration.
CREATE CONSTRAINT memstore_migration IF NOT EXISTS FOR (n:MemstoreMigration) REQUIRE n.name IS UNIQUE;
CREATE CONSTRAINT memstore_meta IF NOT EXISTS FOR (n:MemstoreMeta) REQUIRE (n.namespace, n.name) IS UNIQUE;
CREATE CONSTRAINT memstore_namespace IF NOT EXISTS FOR (n:MemstoreNamespace) REQUIRE n.namespace IS UNIQUE;
CREATE CONSTRAINT memstore_linking IF NOT EXISTS FOR (n:MemstoreLinking) REQUIRE n.namespace IS UNIQUE;
