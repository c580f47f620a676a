-- What a service reads that meets a schema newer than it knows: whether it still works on it. Every migration adds its
-- row.
CREATE TABLE schema_compatibility (
    revision text NOT NULL PRIMARY KEY,
    oldest_service text NOT NULL CHECK (oldest_service ~ '^[0-9]+\.[0-9]+\.[0-9]+$')
);

INSERT INTO schema_compatibility (revision, oldest_service) VALUES ('0002', '0.1.0');
