-- All of this can be run again: what follows it in the migration is outside of its transaction, and may end halfway.

-- Who has a tag (`tag:vip`) or is actively enrolled in a program (`program:` and its id). An index of arrays (GIN) finds
-- all who have a tag, in no order, so that a page would cost as much as the whole list. Triggers keep it, whoever writes;
-- what erases a participant erases its labels too.
CREATE TABLE IF NOT EXISTS participant_labels (
    organization_id uuid NOT NULL,
    label text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    participant_id uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, label, created_at, participant_id)
);

CREATE OR REPLACE FUNCTION label_participant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM participant_labels AS l
        WHERE l.organization_id = OLD.organization_id
            AND l.label = ANY (
                ARRAY(SELECT 'tag:' || t.tag FROM unnest(OLD.tags) AS t (tag) WHERE t.tag <> ALL (NEW.tags))
            )
            AND l.created_at = OLD.created_at
            AND l.participant_id = OLD.participant_id;
        IF OLD.external_id <> NEW.external_id THEN
            UPDATE participant_labels AS l
            SET external_id = NEW.external_id
            WHERE l.organization_id = OLD.organization_id
                AND l.label = ANY (
                    ARRAY(
                        SELECT 'tag:' || t.tag FROM unnest(NEW.tags) AS t (tag)
                        UNION ALL
                        SELECT 'program:' || e.program_id
                        FROM enrollments AS e
                        WHERE e.organization_id = OLD.organization_id AND e.participant_id = OLD.participant_id
                    )
                )
                AND l.created_at = OLD.created_at
                AND l.participant_id = OLD.participant_id;
        END IF;
    END IF;
    INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
    SELECT NEW.organization_id, 'tag:' || t.tag, NEW.created_at, NEW.participant_id, NEW.external_id
    FROM unnest(NEW.tags) AS t (tag)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION label_enrollment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.active THEN
        INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
        SELECT p.organization_id, 'program:' || NEW.program_id, p.created_at, p.participant_id, p.external_id
        FROM participants AS p
        WHERE p.organization_id = NEW.organization_id AND p.participant_id = NEW.participant_id
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM participant_labels AS l
        USING participants AS p
        WHERE p.organization_id = OLD.organization_id AND p.participant_id = OLD.participant_id
            AND l.organization_id = OLD.organization_id
            AND l.label = 'program:' || OLD.program_id
            AND l.created_at = p.created_at
            AND l.participant_id = OLD.participant_id;
    END IF;
    RETURN NULL;
END
$$;

-- The conditions keep what changes nothing here from the cost of a function.
CREATE OR REPLACE TRIGGER label_new AFTER INSERT ON participants
    FOR EACH ROW WHEN (cardinality(NEW.tags) > 0) EXECUTE FUNCTION label_participant();
CREATE OR REPLACE TRIGGER label_changed AFTER UPDATE ON participants
    FOR EACH ROW WHEN (OLD.tags <> NEW.tags OR OLD.external_id <> NEW.external_id) EXECUTE FUNCTION label_participant();
CREATE OR REPLACE TRIGGER label_new AFTER INSERT ON enrollments
    FOR EACH ROW WHEN (NEW.active) EXECUTE FUNCTION label_enrollment();
CREATE OR REPLACE TRIGGER label_changed AFTER UPDATE ON enrollments
    FOR EACH ROW WHEN (OLD.active <> NEW.active) EXECUTE FUNCTION label_enrollment();
CREATE OR REPLACE TRIGGER label_ended AFTER DELETE ON enrollments
    FOR EACH ROW WHEN (OLD.active) EXECUTE FUNCTION label_enrollment();

-- Labels the next participants behind one, as many as it is told to, and returns the last of them. It locks them first,
-- and looks then: what it labels is what they are when it commits.
CREATE OR REPLACE FUNCTION label_next(
    INOUT organization uuid, INOUT participant uuid, how_many int
) LANGUAGE plpgsql AS $$
DECLARE
    organizations uuid[];
    participants uuid[];
BEGIN
    SELECT array_agg(p.organization_id), array_agg(p.participant_id)
    INTO organizations, participants
    FROM (
        SELECT p.organization_id, p.participant_id
        FROM participants AS p
        WHERE (p.organization_id, p.participant_id) > (organization, participant)
        ORDER BY p.organization_id, p.participant_id
        LIMIT how_many
        FOR SHARE
    ) AS p;
    INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
    SELECT p.organization_id, l.label, p.created_at, p.participant_id, p.external_id
    FROM unnest(organizations, participants) AS k (organization_id, participant_id)
    JOIN participants AS p USING (organization_id, participant_id),
        LATERAL (
            SELECT 'tag:' || t.tag FROM unnest(p.tags) AS t (tag)
            UNION ALL
            SELECT 'program:' || e.program_id
            FROM enrollments AS e
            WHERE e.organization_id = p.organization_id AND e.participant_id = p.participant_id AND e.active
        ) AS l (label)
    ON CONFLICT DO NOTHING;
    organization := organizations[cardinality(organizations)];
    participant := participants[cardinality(participants)];
END
$$;

INSERT INTO schema_compatibility (revision, oldest_service) VALUES ('0004', '0.1.0') ON CONFLICT DO NOTHING;
