-- Reads one participant of an organization by its external_id, in the columns in which upsert.sql answers.
SELECT
    p.participant_id::text AS id,
    p.external_id,
    p.revision,
    p.status,
    p.display_name,
    p.email,
    p.first_name,
    p.last_name,
    p.phone,
    p.tags,
    (extract(epoch FROM p.created_at) * 1000000)::bigint AS created_at,
    (extract(epoch FROM p.updated_at) * 1000000)::bigint AS updated_at,
    ARRAY(
        SELECT e.program_id::text
        FROM enrollments AS e
        WHERE e.organization_id = $1::uuid AND e.participant_id = p.participant_id AND e.active
        ORDER BY e.enrolled_at, e.program_id
    ) AS program_ids,
    p.attributes::text AS attributes,
    ARRAY(
        SELECT jsonb_build_array(c.counter_key, c.value::text)
        FROM counters AS c
        WHERE c.organization_id = $1::uuid AND c.participant_id = p.participant_id
    ) AS counters,
    ARRAY(
        SELECT jsonb_build_array(b.asset_id, b.available::text, b.held::text, b.deferred::text)
        FROM balances AS b
        WHERE b.organization_id = $1::uuid AND b.participant_id = p.participant_id
    ) AS balances,
    ARRAY(
        SELECT jsonb_build_array(t.tier_key, t.level, t.rank)
        FROM tiers AS t
        WHERE t.organization_id = $1::uuid AND t.participant_id = p.participant_id
    ) AS tiers
FROM participants AS p
WHERE p.organization_id = $1::uuid AND p.external_id = $2::text
