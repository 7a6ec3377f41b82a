-- Writes what only some saves have: an operation's revision, removals, model uses, files and state.
CREATE FUNCTION taskctx_save_changes_v1(
    saved_context text, run text, number bigint, saved_at double precision, saving_operation text,
    saved_revision bigint, newest bigint, next_seq bigint, next_model bigint, next_position bigint, metadata text,
    toggles text, model_count bigint, position_count bigint, request json
) RETURNS void
LANGUAGE plpgsql AS $function$
DECLARE
    changes record;
    replaced_path text;
    replaced record;
    gone bigint;
BEGIN
    SELECT * INTO changes FROM json_to_record(request) AS r (
        restored_from bigint, added bigint, removed bigint, changed_state bigint, removed_updates bigint[],
        dropped_updates bigint[], removed_models bigint[], models json, changed_paths text[], files json, state json
    );
    IF saving_operation IN ('restore', 'undo') THEN
        INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq, next_model,
                                       next_position, metadata, metadata_toggles, added, removed, changed_state,
                                       operation, source_revision)
        VALUES (saved_context, newest, saved_at, run, number, next_seq, next_model, next_position, metadata, toggles,
                changes.added, changes.removed, changes.changed_state, saving_operation, changes.restored_from);
        RETURN;
    END IF;
    IF changes.dropped_updates IS NOT NULL THEN
        INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq, next_model,
                                       next_position, removed, operation)
        VALUES (saved_context, newest, saved_at, run, number, next_seq, next_model, next_position,
                cardinality(changes.dropped_updates), saving_operation);
        UPDATE taskctx_updates u SET removed_in = newest
        WHERE u.context_id = saved_context AND u.seq = ANY (changes.dropped_updates) AND u.removed_in IS NULL;
    END IF;
    -- What is removed goes before what replaces it: a path has one version at a time.
    IF cardinality(changes.removed_updates) > 0 THEN
        UPDATE taskctx_updates u SET removed_in = saved_revision
        WHERE u.context_id = saved_context AND u.seq = ANY (changes.removed_updates) AND u.removed_in IS NULL;
        GET DIAGNOSTICS gone = ROW_COUNT;
        UPDATE taskctx_revisions v SET removed = nullif(gone, 0)
        WHERE v.context_id = saved_context AND v.revision = saved_revision;
    END IF;
    IF changes.removed_models IS NOT NULL THEN
        UPDATE taskctx_models m SET removed_in = saved_revision
        WHERE m.context_id = saved_context AND m.seq = ANY (changes.removed_models) AND m.removed_in IS NULL;
    END IF;
    -- One by one: for all of them in one statement, Postgres may read every file of the context, since without
    -- statistics it expects a context to have hardly any.
    FOREACH replaced_path IN ARRAY coalesce(changes.changed_paths, '{}') LOOP
        UPDATE taskctx_files f SET removed_in = saved_revision
        WHERE f.context_id = saved_context AND f.path_id = replaced_path AND f.removed_in IS NULL;
    END LOOP;
    IF changes.models IS NOT NULL THEN
        INSERT INTO taskctx_models (context_id, seq, model_id, provider_id, mode, timestamp, input_tokens,
                                    output_tokens, cached_read_tokens, cached_write_tokens, reasoning_tokens,
                                    audio_tokens, cost, price_list, duration, exact, added_in, run_id)
        SELECT saved_context, next_model - model_count - 1 + m.n, m.model_id, m.provider_id, m.mode, m.timestamp,
               m.input_tokens, m.output_tokens, m.cached_read_tokens, m.cached_write_tokens, m.reasoning_tokens,
               m.audio_tokens, m.cost, m.price_list, m.duration, m.exact, saved_revision, run
        FROM ROWS FROM (
            json_to_recordset(changes.models)
            AS (model_id text, provider_id text, mode text, timestamp double precision, input_tokens bigint,
                output_tokens bigint, cached_read_tokens bigint, cached_write_tokens bigint, reasoning_tokens bigint,
                audio_tokens bigint, cost double precision, price_list text, duration double precision, exact text)
        ) WITH ORDINALITY AS m (model_id, provider_id, mode, timestamp, input_tokens, output_tokens, cached_read_tokens,
                                cached_write_tokens, reasoning_tokens, audio_tokens, cost, price_list, duration, exact,
                                n);
    END IF;
    IF changes.files IS NOT NULL THEN
        INSERT INTO taskctx_files (context_id, path_id, added_in, position, path, operation, source, timestamp, state,
                                   exact, run_id)
        SELECT saved_context, f.path_id, saved_revision,
               -- One without a position goes to the end of the tracker.
               coalesce(f.position, next_position - position_count - 1
                                    + count(*) FILTER (WHERE f.position IS NULL) OVER (ORDER BY f.n)),
               f.path, f.operation, f.source, f.timestamp, f.state, f.exact, run
        FROM ROWS FROM (
            json_to_recordset(changes.files)
            AS (path_id text, position bigint, path text, operation text, source text, timestamp double precision,
                state text, exact text)
        ) WITH ORDINALITY AS f (path_id, position, path, operation, source, timestamp, state, exact, n);
    END IF;
    IF changes.state IS NOT NULL THEN
        -- One by one, as the files.
        FOR replaced IN SELECT * FROM json_to_recordset(changes.state) AS s (kind text, name text) LOOP
            UPDATE taskctx_state t SET removed_in = saved_revision
            WHERE t.context_id = saved_context AND t.kind = replaced.kind AND t.name = replaced.name
                  AND t.removed_in IS NULL;
        END LOOP;
        -- One without a value is only removed.
        INSERT INTO taskctx_state (context_id, kind, name, added_in, value, expires_at, saved_at, run_id,
                                   parent_id)
        SELECT saved_context, s.kind, s.name, saved_revision, s.value, s.expires_at, saved_at, run, s.parent_id
        FROM json_to_recordset(changes.state)
             AS s (kind text, name text, value text, expires_at double precision, parent_id text)
        WHERE s.value IS NOT NULL;
    END IF;
END
$function$;
