-- Enrolls one participant in a program, or ends its enrollment; a change of enrollments is one of the participant, whose
-- revision moves on. See update.sql on what comes out.
--
-- In: $1 the organization, $2 the participant, $3 the program, $4 whether the enrollment is to be active, $5 in how many
-- programs a participant may be enrolled.
WITH before AS MATERIALIZED (
    SELECT
        p.*,
        e.active AS enrollment_active,
        coalesce(e.active, false) <> $4::boolean AS differs,
        CASE
            WHEN g.program_id IS NULL THEN 'unknown_program'
            WHEN $4::boolean AND e.active IS NOT TRUE AND (
                SELECT count(*)
                FROM enrollments AS o
                WHERE o.organization_id = $1::uuid AND o.participant_id = $2::uuid AND o.active
            ) >= $5::int
                THEN 'too_many_programs'
        END AS refusal
    FROM participants AS p
    LEFT JOIN enrollments AS e
        ON e.organization_id = $1::uuid AND e.participant_id = $2::uuid AND e.program_id = $3::uuid
    LEFT JOIN programs AS g ON g.organization_id = $1::uuid AND g.program_id = $3::uuid
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
),
locked AS MATERIALIZED (
    SELECT p.ctid AS row_id
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
        AND p.revision = (SELECT b.revision FROM before AS b WHERE b.differs AND b.refusal IS NULL)
    FOR NO KEY UPDATE OF p SKIP LOCKED
),
updated AS (
    UPDATE participants AS p
    SET
        revision = p.revision + 1,
        updated_at = greatest(statement_timestamp(), p.updated_at + interval '1 microsecond')
    FROM locked AS l
    WHERE p.ctid = l.row_id
    RETURNING p.revision, p.updated_at
),
-- What ends is there, so that it is updated. What begins does so when the participant changed, and not before what another
-- enrolled since this statement came.
enrolled AS (
    INSERT INTO enrollments (organization_id, participant_id, program_id, active, enrolled_at)
    SELECT $1::uuid, $2::uuid, $3::uuid, $4::boolean, u.updated_at
    FROM updated AS u
    ON CONFLICT (organization_id, participant_id, program_id) DO UPDATE SET active = excluded.active
)
SELECT
    CASE
        WHEN b.refusal IS NOT NULL THEN b.refusal
        WHEN u.revision IS NOT NULL OR NOT b.differs THEN 'DONE'
    END AS outcome,
    b.participant_id::text AS id,
    b.external_id,
    coalesce(u.revision, b.revision) AS revision,
    b.status,
    b.display_name,
    b.email,
    b.first_name,
    b.last_name,
    b.phone,
    b.tags,
    (extract(epoch FROM b.created_at) * 1000000)::bigint AS created_at,
    (extract(epoch FROM coalesce(u.updated_at, b.updated_at)) * 1000000)::bigint AS updated_at,
    ARRAY(
        SELECT e.program_id::text
        FROM enrollments AS e
        WHERE e.organization_id = $1::uuid AND e.participant_id = $2::uuid
            AND CASE WHEN e.program_id = $3::uuid THEN $4::boolean ELSE e.active END
        ORDER BY e.enrolled_at, e.program_id
    ) || CASE WHEN $4::boolean AND b.enrollment_active IS NULL THEN ARRAY[$3::uuid::text] END AS program_ids,
    b.attributes::text AS attributes,
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
FROM before AS b LEFT JOIN updated AS u ON true
