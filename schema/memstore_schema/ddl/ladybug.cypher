// Tables that record migrations and settings. They exist before the first migration.
CREATE NODE TABLE IF NOT EXISTS Migration(name STRING PRIMARY KEY, number INT64, applied_at TIMESTAMP_TZ);
CREATE NODE TABLE IF NOT EXISTS Meta(name STRING PRIMARY KEY, value STRING);
