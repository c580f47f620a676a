-- Lists participants of an organization: one page, in one of two orders and directions.
--
-- `ahead` is a range of one index, from the page's position on, and never more than $12 rows, whatever the other filters
-- keep of them: that bounds what a page costs. Its last row is answered beside the page, to go on after it where the page
-- could not be filled. What hangs on the participants is read for all of them at once, which touches far fewer blocks than
-- one after another, and enrollments only once, for the filter and for the answer. What stands in braces depends on the
-- order and on which index leads: see lists.py.
--
-- In: $1 the organization; $2, $3 and $4, $5 a time and an id, between which the range in created_at is; $6 and $7 the
-- least external_id and what is greater than the greatest; $8 status, $9 email, $10 tag, $11 program, null where there is
-- no such filter; $12 how many rows to examine, $13 how many to answer, $14 after how many bytes of attributes and tags a
-- page ends.
WITH ahead AS MATERIALIZED (
    SELECT {columns}
    FROM {table} AS l
    WHERE l.organization_id = $1::uuid {condition}
        AND {range}
    ORDER BY {order}
    LIMIT $12::int
),
suiting AS MATERIALIZED (
    SELECT l.*
    FROM {candidates} AS l
    WHERE (l.created_at, l.participant_id) > ($2::timestamptz, $3::uuid)
        AND (l.created_at, l.participant_id) < ($4::timestamptz, $5::uuid)
        AND l.external_id >= $6::text
        AND l.external_id < $7::text
        AND ($8::text IS NULL OR l.status = $8::text)
        AND ($9::text IS NULL OR l.email = $9::text)
        AND ($10::text IS NULL OR $10::text = ANY (l.tags))
),
enrolled AS MATERIALIZED (
    SELECT e.participant_id, array_agg(e.program_id ORDER BY e.enrolled_at, e.program_id) AS program_ids
    FROM enrollments AS e
    WHERE e.organization_id = $1::uuid
        AND e.participant_id = ANY (ARRAY(SELECT l.participant_id FROM suiting AS l ORDER BY {order} LIMIT {asked}))
        AND e.active
    GROUP BY e.participant_id
),
passing AS MATERIALIZED (
    SELECT
        l.*,
        e.program_ids,
        l.attributes::text AS attributes_text,
        count(*) OVER () AS found,
        row_number() OVER (ORDER BY {order}) AS place
    FROM suiting AS l
    LEFT JOIN enrolled AS e ON e.participant_id = l.participant_id
    WHERE {enrolled}
    ORDER BY {order}
    LIMIT $13::int
),
sized AS (
    SELECT
        p.*,
        sum(octet_length(p.attributes_text) + octet_length(array_to_string(p.tags, '')))
            OVER (ORDER BY p.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM passing AS p
),
page AS MATERIALIZED (
    SELECT * FROM sized WHERE coalesce(bytes_before, 0) < $14::int
),
counted AS MATERIALIZED (
    SELECT c.participant_id, array_agg(jsonb_build_array(c.counter_key, c.value::text)) AS counters
    FROM counters AS c
    WHERE c.organization_id = $1::uuid AND c.participant_id = ANY (ARRAY(SELECT p.participant_id FROM page AS p))
    GROUP BY c.participant_id
),
held AS MATERIALIZED (
    SELECT
        b.participant_id,
        array_agg(jsonb_build_array(b.asset_id, b.available::text, b.held::text, b.deferred::text)) AS balances
    FROM balances AS b
    WHERE b.organization_id = $1::uuid AND b.participant_id = ANY (ARRAY(SELECT p.participant_id FROM page AS p))
    GROUP BY b.participant_id
),
reached AS MATERIALIZED (
    SELECT t.participant_id, array_agg(jsonb_build_array(t.tier_key, t.level, t.rank)) AS tiers
    FROM tiers AS t
    WHERE t.organization_id = $1::uuid AND t.participant_id = ANY (ARRAY(SELECT p.participant_id FROM page AS p))
    GROUP BY t.participant_id
)
SELECT
    (SELECT count(*) FROM ahead) AS examined,
    (SELECT {position} FROM ahead AS l OFFSET $12::int - 1) AS position,
    p.found,
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
    coalesce(p.program_ids::text[], '{{}}') AS program_ids,
    p.attributes_text AS attributes,
    c.counters,
    b.balances,
    t.tiers
FROM (SELECT) AS always
LEFT JOIN page AS p ON true
LEFT JOIN counted AS c ON c.participant_id = p.participant_id
LEFT JOIN held AS b ON b.participant_id = p.participant_id
LEFT JOIN reached AS t ON t.participant_id = p.participant_id
ORDER BY p.place
