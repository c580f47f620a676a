-- Upserts one participant that names no program, as upsert.sql does, at two thirds of its cost: an upsert that comes
-- alone has nobody to share the start of a larger plan with.
--
-- No row out means that upsert.sql is to be run: another transaction came first, or attributes or tags are so large
-- that their limits must be looked at.
--
-- In: $1 the organization, $2 the id of a new participant, $3 external_id, $4 status, $5 to $9 the profile, $10
-- attributes, $11 tags; null where the request has none, and an empty profile field clears. $12 how many bytes need no
-- look at the limits.
WITH p AS MATERIALIZED (
    SELECT
        p.*,
        p.attributes || $10::jsonb AS merged,
        coalesce(
            NOT p.attributes @> $10::jsonb
            OR $4::text <> p.status
            OR $5::text <> coalesce(p.display_name, '')
            OR $6::text <> coalesce(p.email, '')
            OR $7::text <> coalesce(p.first_name, '')
            OR $8::text <> coalesce(p.last_name, '')
            OR $9::text <> coalesce(p.phone, '')
            OR $11::text[] <> p.tags,
            false
        ) AS differs
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.external_id = $3::text
),
locked AS MATERIALIZED (
    SELECT p.ctid AS row_id
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.external_id = $3::text
        AND p.revision = (
            SELECT p.revision
            FROM p
            WHERE p.differs
                AND coalesce(pg_column_size(p.merged), 0) <= $12::int
                AND coalesce(pg_column_size($11::text[]), 0) <= $12::int
        )
    FOR NO KEY UPDATE OF p SKIP LOCKED
),
written AS (
    UPDATE participants AS p
    SET
        revision = p.revision + 1,
        status = coalesce($4::text, p.status),
        display_name = nullif(coalesce($5::text, p.display_name), ''),
        email = nullif(coalesce($6::text, p.email), ''),
        first_name = nullif(coalesce($7::text, p.first_name), ''),
        last_name = nullif(coalesce($8::text, p.last_name), ''),
        phone = nullif(coalesce($9::text, p.phone), ''),
        attributes = coalesce((SELECT p.merged FROM p), p.attributes),
        tags = coalesce($11::text[], p.tags),
        updated_at = greatest(statement_timestamp(), p.updated_at + interval '1 microsecond')
    FROM locked AS l
    WHERE p.ctid = l.row_id
    RETURNING p.*
),
inserted AS (
    INSERT INTO participants AS p (
        organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
        attributes, tags
    )
    SELECT
        $1::uuid, $2::uuid, $3::text, coalesce($4::text, 'ACTIVE'), nullif($5::text, ''), nullif($6::text, ''),
        nullif($7::text, ''), nullif($8::text, ''), nullif($9::text, ''), coalesce($10::jsonb, '{}'),
        coalesce($11::text[], '{}')
    WHERE NOT EXISTS (SELECT FROM p)
        AND coalesce(pg_column_size($10::jsonb), 0) <= $12::int
        AND coalesce(pg_column_size($11::text[]), 0) <= $12::int
    ON CONFLICT (organization_id, external_id) DO NOTHING
    RETURNING p.*
),
answered AS (
    SELECT 'UPDATED' AS outcome, w.* FROM written AS w
    UNION ALL
    SELECT 'CREATED', i.* FROM inserted AS i
    UNION ALL
    SELECT
        'UNCHANGED', p.organization_id, p.participant_id, p.external_id, p.revision, p.status, p.display_name, p.email,
        p.first_name, p.last_name, p.phone, p.attributes, p.tags, p.created_at, p.updated_at
    FROM p
    WHERE NOT p.differs
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
    (extract(epoch FROM a.created_at) * 1000000)::bigint AS created_at,
    (extract(epoch FROM a.updated_at) * 1000000)::bigint AS updated_at,
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
