-- A plan to find one participant that is made while the tables are empty takes every index for as good as another, also
-- one of which only the organization is of use here, and so reads all of the organization's participants for each, until
-- the tables are analyzed, long after an import has begun. So it is with the foreign keys and with the triggers of labels,
-- whose plans are made by the first row. Here the planner is shown how many participants an organization has.
DO $$
DECLARE
    example uuid := gen_random_uuid();
BEGIN
    IF EXISTS (SELECT FROM participants) THEN
        RETURN;
    END IF;
    INSERT INTO organizations (organization_id, name) VALUES (example, example::text);
    INSERT INTO participants (organization_id, participant_id, external_id, status, email, attributes, tags, created_at)
    SELECT
        example, gen_random_uuid(), 'example-' || n, (ARRAY['ACTIVE', 'SUSPENDED', 'CLOSED'])[1 + mod(n, 3)],
        n || '@example.com', '{}', ARRAY['example'],
        statement_timestamp() - n * interval '1 s'
    -- Fewer than autovacuum comes for: a table that it has found empty is planned for as such.
    FROM generate_series(1, 40) AS n;
    ANALYZE participants;
    ANALYZE participant_labels;
    DELETE FROM participant_labels WHERE organization_id = example;
    DELETE FROM participants WHERE organization_id = example;
    DELETE FROM organizations WHERE organization_id = example;
END
$$;
