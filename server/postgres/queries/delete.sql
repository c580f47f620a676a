-- Erases one participant and all that hangs on it. See update.sql on what comes out. A row that another transaction hung
-- on it meanwhile violates a foreign key, and the statement is run again.
--
-- In: $1 the organization, $2 the participant, $3 the revision that it must have, null where any will do.
WITH before AS MATERIALIZED (
    SELECT p.revision, coalesce(p.revision <> $3::bigint, false) AS mismatched, p.created_at, p.tags
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
),
locked AS MATERIALIZED (
    SELECT p.ctid AS row_id
    FROM participants AS p
    WHERE p.organization_id = $1::uuid AND p.participant_id = $2::uuid
        AND p.revision = (SELECT b.revision FROM before AS b WHERE NOT b.mismatched)
    FOR UPDATE OF p SKIP LOCKED
),
listed AS (
    DELETE FROM participant_labels AS l
    USING (
        SELECT b.created_at, 'tag:' || t.tag AS label
        FROM before AS b, unnest(b.tags) AS t (tag)
        UNION ALL
        SELECT b.created_at, 'program:' || e.program_id
        FROM before AS b, enrollments AS e
        WHERE e.organization_id = $1::uuid AND e.participant_id = $2::uuid
    ) AS d
    WHERE l.organization_id = $1::uuid AND l.label = d.label
        AND l.created_at = d.created_at AND l.participant_id = $2::uuid
        AND EXISTS (SELECT FROM locked)
),
enrolled AS (
    DELETE FROM enrollments AS e
    WHERE e.organization_id = $1::uuid AND e.participant_id = $2::uuid AND EXISTS (SELECT FROM locked)
),
counted AS (
    DELETE FROM counters AS c
    WHERE c.organization_id = $1::uuid AND c.participant_id = $2::uuid AND EXISTS (SELECT FROM locked)
),
held AS (
    DELETE FROM balances AS b
    WHERE b.organization_id = $1::uuid AND b.participant_id = $2::uuid AND EXISTS (SELECT FROM locked)
),
reached AS (
    DELETE FROM tiers AS t
    WHERE t.organization_id = $1::uuid AND t.participant_id = $2::uuid AND EXISTS (SELECT FROM locked)
),
deleted AS (
    DELETE FROM participants AS p
    USING locked AS l
    WHERE p.ctid = l.row_id
    RETURNING p.revision
)
SELECT
    CASE
        WHEN b.mismatched THEN 'etag_mismatch'
        WHEN d.revision IS NOT NULL THEN 'DONE'
    END AS outcome
FROM before AS b LEFT JOIN deleted AS d ON true
