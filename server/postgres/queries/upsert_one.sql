-- Upserts one participant that names no program, as upsert.sql does, at two thirds of its cost or less: an upsert that
-- comes alone has nobody to share the start of a larger plan with.
--
-- `updated` locks the row if the upsert changes it, unless another transaction holds it, and writes it. The lock is of
-- the row's newest version, which is not seen if it came after the statement's snapshot: so nothing is written over what
-- another has written meanwhile.
--
-- What stands between `-- begin` and `-- end` is left out of the variant that does nothing but update, at two thirds of
-- the cost again.
--
-- No row out means that another transaction came first, or that attributes or tags are so large that their limits must be
-- looked at: upsert.sql is to be run. Of the variant it can also mean that the participant is new, or stays as it is.
--
-- In: $1 the organization, $2 external_id, $3 status, $4 to $8 the profile, $9 attributes, $10 tags; null where the
-- request has none, and an empty profile field clears. $11 how many bytes need no look at the limits; $12 the id of a new
-- participant.
WITH updated AS (
    UPDATE participants AS p
    SET
        revision = p.revision + 1,
        status = coalesce($3::text, p.status),
        display_name = nullif(coalesce($4::text, p.display_name), ''),
        email = nullif(coalesce($5::text, p.email), ''),
        first_name = nullif(coalesce($6::text, p.first_name), ''),
        last_name = nullif(coalesce($7::text, p.last_name), ''),
        phone = nullif(coalesce($8::text, p.phone), ''),
        attributes = coalesce(p.attributes || $9::jsonb, p.attributes),
        tags = coalesce($10::text[], p.tags),
        updated_at = greatest(statement_timestamp(), p.updated_at + interval '1 microsecond')
    WHERE p.ctid = (
        SELECT c.ctid
        FROM participants AS c
        WHERE c.organization_id = $1::uuid AND c.external_id = $2::text
            AND (
                NOT c.attributes @> $9::jsonb
                OR $3::text <> c.status
                OR $4::text <> coalesce(c.display_name, '')
                OR $5::text <> coalesce(c.email, '')
                OR $6::text <> coalesce(c.first_name, '')
                OR $7::text <> coalesce(c.last_name, '')
                OR $8::text <> coalesce(c.phone, '')
                OR $10::text[] <> c.tags
            )
            AND coalesce(pg_column_size(c.attributes || $9::jsonb), 0) <= $11::int
            AND coalesce(pg_column_size($10::text[]), 0) <= $11::int
        FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    RETURNING p.*
),
-- begin rest
found AS MATERIALIZED (
    SELECT
        c.*,
        (
            NOT c.attributes @> $9::jsonb
            OR $3::text <> c.status
            OR $4::text <> coalesce(c.display_name, '')
            OR $5::text <> coalesce(c.email, '')
            OR $6::text <> coalesce(c.first_name, '')
            OR $7::text <> coalesce(c.last_name, '')
            OR $8::text <> coalesce(c.phone, '')
            OR $10::text[] <> c.tags
        ) IS TRUE AS differs
    FROM participants AS c
    WHERE c.organization_id = $1::uuid AND c.external_id = $2::text
),
inserted AS (
    INSERT INTO participants AS p (
        organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
        attributes, tags
    )
    SELECT
        $1::uuid, $12::uuid, $2::text, coalesce($3::text, 'ACTIVE'), nullif($4::text, ''), nullif($5::text, ''),
        nullif($6::text, ''), nullif($7::text, ''), nullif($8::text, ''), coalesce($9::jsonb, '{}'),
        coalesce($10::text[], '{}')
    WHERE NOT EXISTS (SELECT FROM found)
        AND coalesce(pg_column_size($9::jsonb), 0) <= $11::int
        AND coalesce(pg_column_size($10::text[]), 0) <= $11::int
    ON CONFLICT (organization_id, external_id) DO NOTHING
    RETURNING p.*
),
-- end rest
answered AS (
    SELECT 'UPDATED' AS outcome, u.* FROM updated AS u
    -- begin rest
    UNION ALL
    SELECT 'CREATED', i.* FROM inserted AS i
    UNION ALL
    SELECT
        'UNCHANGED', f.organization_id, f.participant_id, f.external_id, f.revision, f.status, f.display_name, f.email,
        f.first_name, f.last_name, f.phone, f.attributes, f.tags, f.created_at, f.updated_at
    FROM found AS f
    WHERE NOT f.differs
    -- end rest
)
SELECT
    0 AS n,
    a.outcome,
    a.participant_id::text AS id,
    a.external_id,
    a.revision,
    a.status,
    a.display_name,
    a.email,
    a.first_name,
    a.last_name,
    a.phone,
    a.tags,
    -- As in upsert.sql.
    (date_part('epoch', a.created_at) * 1000000)::bigint AS created_at,
    (date_part('epoch', a.updated_at) * 1000000)::bigint AS updated_at,
    ARRAY(
        SELECT e.program_id::text
        FROM enrollments AS e
        WHERE e.organization_id = $1::uuid AND e.participant_id = a.participant_id AND e.active
        ORDER BY e.enrolled_at, e.program_id
    ) AS program_ids,
    a.attributes::text AS attributes,
    ARRAY(
        SELECT jsonb_build_array(c.counter_key, c.value::text)
        FROM counters AS c
        WHERE c.organization_id = $1::uuid AND c.participant_id = a.participant_id
    ) AS counters,
    ARRAY(
        SELECT jsonb_build_array(b.asset_id, b.available::text, b.held::text, b.deferred::text)
        FROM balances AS b
        WHERE b.organization_id = $1::uuid AND b.participant_id = a.participant_id
    ) AS balances,
    ARRAY(
        SELECT jsonb_build_array(t.tier_key, t.level, t.rank)
        FROM tiers AS t
        WHERE t.organization_id = $1::uuid AND t.participant_id = a.participant_id
    ) AS tiers
FROM answered AS a
