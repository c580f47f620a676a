-- Every primary key and index begins with organization_id, so that the tables can be distributed by it; what
-- belongs to an organization can then only be reached through it.

CREATE TABLE organizations (
    organization_id uuid NOT NULL PRIMARY KEY,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The one index that does not begin with an organization: it finds organizations by what people call them.
CREATE UNIQUE INDEX organizations_name ON organizations (name);

-- A key names its organization and its own id, and proves itself by a secret; only the SHA-256 of the whole key is
-- stored. The secret has 192 random bits, so a slow password hash would add nothing.
CREATE TABLE api_keys (
    organization_id uuid NOT NULL REFERENCES organizations,
    key_id text NOT NULL CHECK (key_id ~ '^[0-9a-f]{16}$'),
    name text NOT NULL CHECK (char_length(name) <= 255),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (organization_id, key_id)
);

CREATE TABLE programs (
    organization_id uuid NOT NULL REFERENCES organizations,
    program_id uuid NOT NULL,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, program_id),
    UNIQUE (organization_id, name)
);

-- external_id is compared byte for byte, whatever the database's collation. A profile field that is not set is
-- null, never empty. revision counts the row's versions, so that a writer can tell whether the row it read is still
-- the current one. Upserts change no indexed column, and the fill factor leaves room for the next version on the
-- same page: updates stay heap-only and touch no index.
CREATE TABLE participants (
    organization_id uuid NOT NULL REFERENCES organizations,
    participant_id uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL CHECK (char_length(external_id) BETWEEN 1 AND 255),
    revision bigint NOT NULL DEFAULT 1,
    status text NOT NULL CHECK (status IN ('ACTIVE', 'SUSPENDED', 'CLOSED')),
    display_name text CHECK (char_length(display_name) BETWEEN 1 AND 255),
    email text CHECK (char_length(email) BETWEEN 1 AND 255),
    first_name text CHECK (char_length(first_name) BETWEEN 1 AND 255),
    last_name text CHECK (char_length(last_name) BETWEEN 1 AND 255),
    phone text CHECK (char_length(phone) BETWEEN 1 AND 50),
    attributes jsonb NOT NULL CHECK (jsonb_typeof(attributes) = 'object'),
    tags text[] NOT NULL CHECK (cardinality(tags) <= 256),
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp() CHECK (updated_at >= created_at),
    PRIMARY KEY (organization_id, participant_id),
    UNIQUE (organization_id, external_id)
) WITH (fillfactor = 80);

-- An enrollment that ends stays as an inactive row, and a later one makes it active again.
CREATE TABLE enrollments (
    organization_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    program_id uuid NOT NULL,
    active boolean NOT NULL DEFAULT true,
    enrolled_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (organization_id, participant_id, program_id),
    FOREIGN KEY (organization_id, participant_id) REFERENCES participants,
    FOREIGN KEY (organization_id, program_id) REFERENCES programs
);

-- What other parts of the system earn for a participant, and responses show.

CREATE TABLE counters (
    organization_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    counter_key text NOT NULL CHECK (counter_key <> ''),
    value numeric NOT NULL CHECK (value NOT IN ('NaN', 'Infinity', '-Infinity')),
    PRIMARY KEY (organization_id, participant_id, counter_key),
    FOREIGN KEY (organization_id, participant_id) REFERENCES participants
);

CREATE TABLE balances (
    organization_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    asset_id text NOT NULL CHECK (asset_id <> ''),
    available numeric NOT NULL DEFAULT 0 CHECK (available NOT IN ('NaN', 'Infinity', '-Infinity')),
    held numeric NOT NULL DEFAULT 0 CHECK (held NOT IN ('NaN', 'Infinity', '-Infinity')),
    deferred numeric NOT NULL DEFAULT 0 CHECK (deferred NOT IN ('NaN', 'Infinity', '-Infinity')),
    PRIMARY KEY (organization_id, participant_id, asset_id),
    FOREIGN KEY (organization_id, participant_id) REFERENCES participants
);

CREATE TABLE tiers (
    organization_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    tier_key text NOT NULL CHECK (tier_key <> ''),
    level text NOT NULL CHECK (level <> ''),
    rank integer NOT NULL,
    PRIMARY KEY (organization_id, participant_id, tier_key),
    FOREIGN KEY (organization_id, participant_id) REFERENCES participants
);
