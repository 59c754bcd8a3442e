// What a database must have before its first migration: where migrations, settings and namespaces are recorded,
// and what writers and linkers lock.
CREATE CONSTRAINT memstore_migration IF NOT EXISTS FOR (n:MemstoreMigration) REQUIRE n.name IS UNIQUE;
CREATE CONSTRAINT memstore_meta IF NOT EXISTS FOR (n:MemstoreMeta) REQUIRE (n.namespace, n.name) IS UNIQUE;
CREATE CONSTRAINT memstore_namespace IF NOT EXISTS FOR (n:MemstoreNamespace) REQUIRE n.namespace IS UNIQUE;
CREATE CONSTRAINT memstore_linking IF NOT EXISTS FOR (n:MemstoreLinking) REQUIRE n.namespace IS UNIQUE;
