-- Upserts participants: one row in, one row out, whatever the number, in one round trip and one commit.
--
-- Read, merge, compare-and-swap. `proposed` reads each participant as of the statement's snapshot and computes what
-- it is to become; `locked` locks those that change and are still the version that was read, and skips what another
-- transaction holds; `updated` writes them; `inserted` writes those whose key is still free. Where another
-- transaction came first the outcome is null, and the caller runs the upsert again. What would change nothing is
-- answered from the snapshot and not even locked. So no statement waits for a row lock, and none can deadlock on
-- one; inserts of the same new keys wait for each other in key order.
--
-- What stands between `-- begin` and `-- end` of a name is left out of the variants of this statement that do without
-- it: `programs` where no upsert names a program, `whole` where no caller wants more than the participant's names.
--
-- In: $1 whether to write new participants; $2 how many attributes a participant may have, $3 and $4 how many bytes of
-- attributes and of tags; then the upserts, an array for each of their fields, null where none of them has a value; and
-- where one of them names a program, in how many a participant may be enrolled. An absent value is null, and an empty
-- profile field clears; keys do not repeat. Tags come as the text of an array each: as one array of arrays they would
-- all have to be equally many.
WITH proposed AS MATERIALIZED (
    SELECT
        i.n - 1 AS n,
        i.organization_id,
        i.external_id,
        p.ctid AS row_id,
        p.ctid IS NOT NULL AS existed,
        p.revision,
        p.created_at,
        p.updated_at,
        coalesce(p.participant_id, i.participant_id) AS participant_id,
        coalesce(i.status, p.status, 'ACTIVE') AS status,
        nullif(coalesce(i.display_name, p.display_name), '') AS display_name,
        nullif(coalesce(i.email, p.email), '') AS email,
        nullif(coalesce(i.first_name, p.first_name), '') AS first_name,
        nullif(coalesce(i.last_name, p.last_name), '') AS last_name,
        nullif(coalesce(i.phone, p.phone), '') AS phone,
        coalesce(a.merged, p.attributes, i.attributes, '{}') AS attributes,
        coalesce(a.tags, p.tags, '{}') AS tags,
        -- begin programs
        i.program_id,
        e.active AS enrollment_active,
        i.program_id IS NOT NULL AND e.active IS NOT TRUE AS enrolls,
        -- end programs
        coalesce(
            a.differ
            OR i.status <> p.status
            OR i.display_name <> coalesce(p.display_name, '')
            OR i.email <> coalesce(p.email, '')
            OR i.first_name <> coalesce(p.first_name, '')
            OR i.last_name <> coalesce(p.last_name, '')
            OR i.phone <> coalesce(p.phone, '')
            OR a.tags <> p.tags
            -- begin programs
            OR i.program_id IS NOT NULL AND e.active IS NOT TRUE
            -- end programs
            ,
            false
        ) AS differs,
        -- A participant as a whole is bounded: merging must not grow it beyond, however often; one that is larger already
        -- may shrink. As jsonb an attribute takes more than 8 bytes beside its text, and an array takes more than its
        -- texts: only what is large needs counting.
        coalesce(
            -- begin programs
            CASE
                WHEN i.program_id IS NOT NULL AND g.program_id IS NULL THEN 'unknown_program'
                WHEN i.program_id IS NOT NULL AND e.active IS NOT TRUE AND (
                    SELECT count(*)
                    FROM enrollments AS o
                    WHERE o.organization_id = i.organization_id AND o.participant_id = p.participant_id AND o.active
                ) >= $17::int
                    THEN 'too_many_programs'
            END,
            -- end programs
            CASE
                WHEN a.differ IS NOT FALSE
                    AND pg_column_size(coalesce(a.merged, i.attributes)) > least($2::int * 8, $3::int)
                    THEN (
                        SELECT
                            CASE
                                WHEN after.keys > greatest($2::int, before.keys) THEN 'too_many_attributes'
                                WHEN after.bytes > greatest($3::int, before.bytes) THEN 'attributes_too_large'
                            END
                        FROM
                            (
                                SELECT count(*) AS keys, sum(octet_length(key) + octet_length(value)) AS bytes
                                FROM jsonb_each_text(coalesce(a.merged, i.attributes))
                            ) AS after,
                            (
                                SELECT count(*) AS keys, sum(octet_length(key) + octet_length(value)) AS bytes
                                FROM jsonb_each_text(p.attributes)
                            ) AS before
                    )
            END,
            CASE
                WHEN pg_column_size(a.tags) > $4::int
                    AND octet_length(array_to_string(a.tags, ''))
                    > greatest($4::int, octet_length(array_to_string(p.tags, '')))
                    THEN 'tags_too_large'
            END
        ) AS refusal
    FROM unnest(
        $5::uuid[], $6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::jsonb[], $15::text[], $16::uuid[]
    ) WITH ORDINALITY AS i (
        organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
        attributes, text_of_tags, program_id, n
    )
    -- LATERAL and LIMIT pin the plan to one index look-up a row, whatever the planner believes of the table's size.
    LEFT JOIN LATERAL (
        SELECT p.ctid, p.*
        FROM participants AS p
        WHERE p.organization_id = i.organization_id AND p.external_id = i.external_id
        LIMIT 1
    ) AS p ON true
    -- OFFSET keeps the planner from computing these anew wherever they are used.
    LEFT JOIN LATERAL (
        SELECT
            p.attributes || i.attributes AS merged,
            NOT p.attributes @> i.attributes AS differ,
            i.text_of_tags::text[] AS tags
        OFFSET 0
    ) AS a ON true
    -- begin programs
    LEFT JOIN LATERAL (
        SELECT e.active
        FROM enrollments AS e
        WHERE e.organization_id = i.organization_id
            AND e.participant_id = p.participant_id
            AND e.program_id = i.program_id
        LIMIT 1
    ) AS e ON true
    LEFT JOIN LATERAL (
        SELECT g.program_id
        FROM programs AS g
        WHERE g.organization_id = i.organization_id AND g.program_id = i.program_id
        LIMIT 1
    ) AS g ON true
    -- end programs
),
locked AS MATERIALIZED (
    SELECT
        j.n, j.row_id, j.status, j.display_name, j.email, j.first_name, j.last_name, j.phone, j.attributes, j.tags
    FROM participants AS p
    JOIN (SELECT * FROM proposed WHERE existed AND differs AND refusal IS NULL) AS j
        ON p.ctid = j.row_id AND p.revision = j.revision AND p.participant_id = j.participant_id
    FOR NO KEY UPDATE OF p SKIP LOCKED
),
updated AS (
    UPDATE participants AS p
    SET
        revision = p.revision + 1,
        status = l.status,
        display_name = l.display_name,
        email = l.email,
        first_name = l.first_name,
        last_name = l.last_name,
        phone = l.phone,
        attributes = l.attributes,
        tags = l.tags,
        updated_at = greatest(statement_timestamp(), p.updated_at + interval '1 microsecond')
    FROM locked AS l
    WHERE p.ctid = l.row_id
    RETURNING l.n, p.revision, p.updated_at
),
inserted AS (
    INSERT INTO participants (
        organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
        attributes, tags
    )
    SELECT
        organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
        attributes, tags
    FROM proposed
    WHERE NOT existed AND refusal IS NULL AND $1::boolean
    ORDER BY organization_id, external_id
    ON CONFLICT (organization_id, external_id) DO NOTHING
    RETURNING participant_id, revision, created_at, updated_at
)
-- begin programs
,
-- As in enroll.sql.
enrolled AS (
    INSERT INTO enrollments (organization_id, participant_id, program_id, enrolled_at)
    SELECT j.organization_id, j.participant_id, j.program_id, coalesce(u.updated_at, i.updated_at)
    FROM proposed AS j
    LEFT JOIN updated AS u ON u.n = j.n
    LEFT JOIN inserted AS i ON i.participant_id = j.participant_id
    WHERE j.enrolls AND (u.n IS NOT NULL OR i.participant_id IS NOT NULL)
    ORDER BY j.organization_id, j.participant_id
    ON CONFLICT (organization_id, participant_id, program_id) DO UPDATE SET active = true
)
-- end programs
SELECT
    j.n,
    CASE
        WHEN j.refusal IS NOT NULL THEN j.refusal
        WHEN u.n IS NOT NULL THEN 'UPDATED'
        WHEN i.participant_id IS NOT NULL THEN 'CREATED'
        WHEN j.existed AND NOT j.differs THEN 'UNCHANGED'
    END AS outcome,
    j.participant_id::text AS id,
    j.external_id,
    coalesce(u.revision, i.revision, j.revision) AS revision
    -- begin whole
    ,
    j.status,
    j.display_name,
    j.email,
    j.first_name,
    j.last_name,
    j.phone,
    j.tags,
    -- date_part is exact to the microsecond until 2106, and cheaper than the arbitrary precision of extract.
    (date_part('epoch', coalesce(i.created_at, j.created_at)) * 1000000)::bigint AS created_at,
    (date_part('epoch', coalesce(u.updated_at, i.updated_at, j.updated_at)) * 1000000)::bigint AS updated_at,
    ARRAY(
        SELECT e.program_id::text
        FROM enrollments AS e
        WHERE e.organization_id = j.organization_id
            AND e.participant_id = j.participant_id
            AND (
                e.active
                -- begin programs
                OR e.program_id = j.program_id
                -- end programs
            )
        ORDER BY e.enrolled_at, e.program_id
    )
    -- begin programs
    || CASE WHEN j.enrolls AND j.enrollment_active IS NULL THEN ARRAY[j.program_id::text] END
    -- end programs
    AS program_ids,
    j.attributes::text AS attributes,
    ARRAY(
        SELECT jsonb_build_array(c.counter_key, c.value::text)
        FROM counters AS c
        WHERE c.organization_id = j.organization_id AND c.participant_id = j.participant_id
    ) AS counters,
    ARRAY(
        SELECT jsonb_build_array(b.asset_id, b.available::text, b.held::text, b.deferred::text)
        FROM balances AS b
        WHERE b.organization_id = j.organization_id AND b.participant_id = j.participant_id
    ) AS balances,
    ARRAY(
        SELECT jsonb_build_array(t.tier_key, t.level, t.rank)
        FROM tiers AS t
        WHERE t.organization_id = j.organization_id AND t.participant_id = j.participant_id
    ) AS tiers
    -- end whole
FROM proposed AS j
LEFT JOIN updated AS u ON u.n = j.n
LEFT JOIN inserted AS i ON i.participant_id = j.participant_id
