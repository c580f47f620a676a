-- For operators, to about a minute: the service writes it in batches, and nothing depends on it. It is in no index, and
-- the room on each page keeps its updates heap-only.
ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;
ALTER TABLE api_keys SET (fillfactor = 70);

-- One row for each administrative change, written by the transaction that makes the change. What the database knows of
-- who did it is the database's to say; host and os_user are what the command found around itself. client_address is
-- null over a Unix socket. subject is the id of the key or the program, and null where the change is the organization
-- itself. details never hold a key.
CREATE TABLE audit_log (
    organization_id uuid NOT NULL REFERENCES organizations,
    entry_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL CHECK (action <> ''),
    subject text,
    details jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    database_user text NOT NULL DEFAULT session_user,
    client_address inet DEFAULT inet_client_addr(),
    host text NOT NULL,
    os_user text NOT NULL,
    PRIMARY KEY (organization_id, entry_id)
);

INSERT INTO schema_compatibility (revision, oldest_service) VALUES ('0003', '0.1.0');
