-- Changes one participant: read, merge, compare-and-swap, as upsert.sql does, and for the same reasons.
--
-- No row out means that there is no such participant. A null outcome means that another transaction came first, and the
-- statement is to be run again. So does a violation of the unique external_id: what took it is seen the next time.
--
-- In: $1 the organization, $2 the participant, $3 external_id, $4 status, $5 to $9 the profile; null leaves, and an empty
-- profile field clears. $10 attributes to merge, $11 keys to remove, $12 tags that replace, $13 tags to add, $14 tags to
-- remove; null where there are none. $15 the revision that it must have, null where any will do. $16 how many attributes a
-- participant may have, $17 and $18 how many bytes of attributes and of tags, $19 how many tags.
WITH before AS MATERIALIZED (
    SELECT p.*
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
),
after AS MATERIALIZED (
    SELECT
        coalesce($3::text, b.external_id) AS external_id,
        coalesce($4::text, b.status) AS status,
        nullif(coalesce($5::text, b.display_name), '') AS display_name,
        nullif(coalesce($6::text, b.email), '') AS email,
        nullif(coalesce($7::text, b.first_name), '') AS first_name,
        nullif(coalesce($8::text, b.last_name), '') AS last_name,
        nullif(coalesce($9::text, b.phone), '') AS phone,
        (b.attributes || coalesce($10::jsonb, '{}')) - coalesce($11::text[], '{}') AS attributes,
        CASE
            WHEN $13::text[] IS NULL AND $14::text[] IS NULL THEN coalesce($12::text[], b.tags)
            ELSE ARRAY(
                SELECT u.tag
                FROM unnest(coalesce($12::text[], b.tags) || $13::text[]) WITH ORDINALITY AS u (tag, place)
                WHERE u.tag <> ALL (coalesce($14::text[], '{}'))
                GROUP BY u.tag
                ORDER BY min(u.place)
            )
        END AS tags
    FROM before AS b
),
verdict AS MATERIALIZED (
    SELECT
        (
            a.external_id, a.status, a.display_name, a.email, a.first_name, a.last_name, a.phone, a.attributes, a.tags
        ) IS DISTINCT FROM (
            b.external_id, b.status, b.display_name, b.email, b.first_name, b.last_name, b.phone, b.attributes, b.tags
        ) AS differs,
        CASE
            WHEN b.revision <> $15::bigint THEN 'etag_mismatch'
            WHEN a.external_id <> b.external_id AND EXISTS (
                SELECT FROM participants AS p WHERE p.organization_id = $1::uuid AND p.external_id = $3::text
            ) THEN 'already_exists'
            WHEN attributes_after.keys > greatest($16::int, attributes_before.keys) THEN 'too_many_attributes'
            WHEN attributes_after.bytes > greatest($17::int, attributes_before.bytes) THEN 'attributes_too_large'
            WHEN cardinality(a.tags) > $19::int THEN 'too_many_tags'
            WHEN octet_length(array_to_string(a.tags, ''))
                > greatest($18::int, octet_length(array_to_string(b.tags, '')))
                THEN 'tags_too_large'
        END AS refusal
    FROM before AS b, after AS a,
        LATERAL (
            SELECT count(*) AS keys, sum(octet_length(key) + octet_length(value)) AS bytes
            FROM jsonb_each_text(a.attributes)
        ) AS attributes_after,
        LATERAL (
            SELECT count(*) AS keys, sum(octet_length(key) + octet_length(value)) AS bytes
            FROM jsonb_each_text(b.attributes)
        ) AS attributes_before
),
locked AS MATERIALIZED (
    SELECT p.ctid AS row_id
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
        AND p.revision = (SELECT b.revision FROM before AS b, verdict AS v WHERE v.differs AND v.refusal IS NULL)
    FOR NO KEY UPDATE OF p SKIP LOCKED
),
updated AS (
    UPDATE participants AS p
    SET
        revision = p.revision + 1,
        external_id = a.external_id,
        status = a.status,
        display_name = a.display_name,
        email = a.email,
        first_name = a.first_name,
        last_name = a.last_name,
        phone = a.phone,
        attributes = a.attributes,
        tags = a.tags,
        updated_at = greatest(statement_timestamp(), p.updated_at + interval '1 microsecond')
    FROM after AS a, locked AS l
    WHERE p.ctid = l.row_id
    RETURNING p.revision, p.updated_at
)
SELECT
    CASE
        WHEN v.refusal IS NOT NULL THEN v.refusal
        WHEN u.revision IS NOT NULL OR NOT v.differs THEN 'DONE'
    END AS outcome,
    b.participant_id::text AS id,
    a.external_id,
    coalesce(u.revision, b.revision) AS revision,
    a.status,
    a.display_name,
    a.email,
    a.first_name,
    a.last_name,
    a.phone,
    a.tags,
    (extract(epoch FROM b.created_at) * 1000000)::bigint AS created_at,
    (extract(epoch FROM coalesce(u.updated_at, b.updated_at)) * 1000000)::bigint AS updated_at,
    ARRAY(
        SELECT e.program_id::text
        FROM enrollments AS e
        WHERE e.organization_id = $1::uuid AND e.participant_id = $2::uuid AND e.active
        ORDER BY e.enrolled_at, e.program_id
    ) AS program_ids,
    a.attributes::text AS attributes,
    ARRAY(
        SELECT jsonb_build_array(c.counter_key, c.value::text)
        FROM counters AS c
        WHERE c.organization_id = $1::uuid AND c.participant_id = $2::uuid
    ) AS counters,
    ARRAY(
        SELECT jsonb_build_array(b.asset_id, b.available::text, b.held::text, b.deferred::text)
        FROM balances AS b
        WHERE b.organization_id = $1::uuid AND b.participant_id = $2::uuid
    ) AS balances,
    ARRAY(
        SELECT jsonb_build_array(t.tier_key, t.level, t.rank)
        FROM tiers AS t
        WHERE t.organization_id = $1::uuid AND t.participant_id = $2::uuid
    ) AS tiers
FROM before AS b CROSS JOIN after AS a CROSS JOIN verdict AS v LEFT JOIN updated AS u ON true
