-- Saves those that nobody came before, of saves to several contexts: with one statement, where one at a time each save
-- has four. Restores and undos are not among them. Returns the answers at the places of those that it has saved; and the
-- other saves, which are to be done one by one, with their places.
--
-- The contexts are locked in the order of the saves, those of the other saves with them. Only contexts that are not there
-- yet come later; where two calls wait for each other because of that, the limit for locks ends it.
CREATE FUNCTION taskctx_save_together_v1(requested json, OUT answers text[], OUT others json, OUT places bigint[])
LANGUAGE plpgsql AS $function$
DECLARE
    written record;
    users text[];
BEGIN
    others := requested;
    IF row_security_active('taskctx_contexts') THEN
        -- Each row is checked against the user that is set, so a statement writes the rows of one user.
        SELECT array_agg(DISTINCT r.save ->> 'rls_user') INTO users FROM json_array_elements(requested) AS r (save);
        IF cardinality(users) > 1 THEN
            RETURN;
        END IF;
        PERFORM set_config('taskctx.user_id', users[1], true);
    END IF;
    WITH head AS (
        UPDATE taskctx_contexts c
        SET revision = c.revision + s.makes_revision::integer + (s.operation IS NOT NULL)::integer,
            next_seq = c.next_seq + s.update_count,
            next_model = c.next_model + s.model_count,
            next_position = c.next_position + s.position_count,
            metadata = coalesce(s.metadata, c.metadata),
            metadata_toggles = coalesce(s.toggles, c.metadata_toggles),
            updated_at = greatest(c.updated_at, s.saved_at)
        FROM (
            -- OFFSET 0 keeps the conditions below from being tested before the context is locked.
            SELECT r.*, l.created_at, l.revision
            FROM ROWS FROM (json_to_recordset(requested) AS (
                context_id text, saved_at double precision, run_id text, save_number bigint,
                started_at double precision, ended_at double precision, outcome text, error text,
                base_created_at double precision, base_revision bigint, base_newest bigint, makes_revision boolean,
                operation text, metadata text, toggles text, update_count bigint, model_count bigint,
                position_count bigint, updates json, changes json
            )) WITH ORDINALITY AS r (
                context_id, saved_at, run_id, save_number, started_at, ended_at, outcome, error, base_created_at,
                base_revision, base_newest, makes_revision, operation, metadata, toggles, update_count, model_count,
                position_count, updates, changes, place
            ) CROSS JOIN LATERAL (
                SELECT c.created_at, c.revision FROM taskctx_contexts c WHERE c.context_id = r.context_id FOR UPDATE
            ) AS l OFFSET 0
        ) AS s
        WHERE c.context_id = s.context_id AND s.created_at = s.base_created_at AND s.revision = s.base_revision
              AND s.base_newest <= s.base_revision AND coalesce(s.operation NOT IN ('restore', 'undo'), true)
        RETURNING c.context_id, c.created_at, c.revision, c.next_seq, c.next_model, c.next_position, s.saved_at,
                  s.run_id, s.save_number, s.started_at, s.ended_at, s.outcome, s.error, s.makes_revision, s.metadata,
                  s.toggles, s.update_count, s.updates, s.changes, s.place,
                  c.revision - (s.operation IS NOT NULL AND s.makes_revision)::integer AS saved_revision
    ),
    run AS (
        INSERT INTO taskctx_runs (context_id, run_id, started_at, ended_at, outcome, error, saves)
        SELECT h.context_id, h.run_id, h.started_at, h.ended_at, h.outcome, h.error, h.save_number FROM head h
        ON CONFLICT (context_id, run_id) DO UPDATE
        SET ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, saves = excluded.saves
    ),
    revision AS (
        INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq, next_model,
                                       next_position, metadata, metadata_toggles, changed_state)
        SELECT h.context_id, h.saved_revision, h.saved_at, h.run_id, h.save_number, h.next_seq, h.next_model,
               h.next_position, h.metadata, h.toggles,
               CASE json_typeof(h.changes -> 'state') WHEN 'array' THEN json_array_length(h.changes -> 'state') END
        FROM head h WHERE h.makes_revision
    ),
    added AS (
        INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, exact, added_in, run_id)
        SELECT h.context_id, h.next_seq - h.update_count - 1 + u.n, u.timestamp, u.update_type, u.data, u.metadata,
               u.exact, h.saved_revision, h.run_id
        FROM head h CROSS JOIN ROWS FROM (
            json_to_recordset(h.updates)
            AS (timestamp double precision, update_type text, data text, metadata text, exact text)
        ) WITH ORDINALITY AS u (timestamp, update_type, data, metadata, exact, n)
    )
    SELECT array_agg(h.place ORDER BY h.place) AS places, bool_or(h.changes IS NOT NULL) AS have_changes,
           array_agg(json_build_array('saved', h.created_at, h.revision, h.next_seq, h.next_model,
                                      h.next_position)::text ORDER BY h.place) AS answers
    INTO written FROM head h;
    IF written.places IS NULL THEN
        RETURN;
    END IF;
    IF written.have_changes THEN
        PERFORM taskctx_save_changes_v1(
            r.context_id, r.run_id, r.save_number, r.saved_at, r.operation,
            c.revision - (r.operation IS NOT NULL AND r.makes_revision)::integer, c.revision, c.next_seq, c.next_model,
            c.next_position, r.metadata, r.toggles, r.model_count, r.position_count, r.changes)
        FROM ROWS FROM (json_to_recordset(requested) AS (
            context_id text, run_id text, save_number bigint, saved_at double precision, operation text,
            makes_revision boolean, metadata text, toggles text, model_count bigint, position_count bigint, changes json
        )) WITH ORDINALITY AS r (
            context_id, run_id, save_number, saved_at, operation, makes_revision, metadata, toggles, model_count,
            position_count, changes, place
        ) JOIN taskctx_contexts c ON c.context_id = r.context_id
        WHERE r.changes IS NOT NULL AND r.place = ANY (written.places);
    END IF;
    IF cardinality(written.places) = json_array_length(requested) THEN
        answers := written.answers;
        others := NULL;
        RETURN;
    END IF;
    SELECT coalesce(json_agg(r.save ORDER BY r.place), '[]'), array_agg(r.place ORDER BY r.place) INTO others, places
    FROM json_array_elements(requested) WITH ORDINALITY AS r (save, place)
    WHERE r.place <> ALL (written.places);
    FOR n IN 1 .. cardinality(written.places) LOOP
        answers[written.places[n]] := written.answers[n];
    END LOOP;
END
$function$;
