-- Saves contexts in the transaction of the caller, and returns what was done. docs/schema.md describes the request, a
-- JSON array with a save of each context, and the answers, an array in the same order. Saves are in the order of their
-- contexts, so that two calls never wait for each other. Unless it ``waits``, the call fails if somebody else keeps a
-- context locked. ``first_context`` is that of the first save: on Citus, the function runs where that context is.
--
-- Each statement sees what was committed before it began, so once the row of a context is locked, it sees all that
-- others have saved. A save is written once: it changes a context only from the revision that its writer has seen, or
-- after it has found that its run has not counted it yet.
CREATE FUNCTION taskctx_save_v1(first_context text, request text, waits boolean) RETURNS text
LANGUAGE plpgsql AS $function$
DECLARE
    answers text[];
    -- The saves that are done one by one, and the places of their answers.
    others json := request::json;
    places bigint[];
    done bigint := 0;
    save record;
BEGIN
    -- A plan that was made while a table was small would read the whole table each time.
    PERFORM set_config('enable_seqscan', 'off', true);
    IF NOT waits THEN
        -- Another save holds a lock for a shorter time.
        PERFORM set_config('lock_timeout', '50ms', true);
        -- The statement costs more than it saves for fewer. Citus takes none for several contexts.
        IF json_array_length(others) >= 8 AND current_setting('citus.version', true) IS NULL THEN
            SELECT t.answers, t.others, t.places INTO answers, others, places
            FROM taskctx_save_together_v1(others) AS t;
        END IF;
    END IF;
    FOR save IN SELECT * FROM json_to_recordset(others) AS r (
        context_id text, user_id text, chat_id text, rls_user text, saved_at double precision, run_id text,
        save_number bigint, started_at double precision, ended_at double precision, outcome text, error text,
        base_created_at double precision, base_revision bigint, base_newest bigint, if_unchanged boolean,
        makes_revision boolean, operation text, metadata text, toggles text, update_count bigint, model_count bigint,
        position_count bigint, updates json, changes json
    ) LOOP
        DECLARE
            head record;
            decision record;
            -- The usual case is that nobody else has saved since. A restore has to be prepared first.
            known_created_at double precision := save.base_created_at;
            known_revision bigint := CASE WHEN save.base_newest <= save.base_revision
                                          AND coalesce(save.operation NOT IN ('restore', 'undo'), true)
                                     THEN save.base_revision END;
            is_decided boolean := false;
            saved_revision bigint;
            place bigint;
        BEGIN
            done := done + 1;
            place := coalesce(places[done], done);
            IF save.rls_user IS NOT NULL THEN
                PERFORM set_config('taskctx.user_id', save.rls_user, true);
            END IF;
            LOOP
                UPDATE taskctx_contexts c
                SET revision = c.revision + save.makes_revision::integer + (save.operation IS NOT NULL)::integer,
                    next_seq = c.next_seq + save.update_count,
                    next_model = c.next_model + save.model_count,
                    next_position = c.next_position + save.position_count,
                    metadata = coalesce(save.metadata, c.metadata),
                    metadata_toggles = coalesce(save.toggles, c.metadata_toggles),
                    -- A slow clock does not set it back.
                    updated_at = greatest(c.updated_at, save.saved_at)
                WHERE c.context_id = save.context_id AND c.created_at = known_created_at AND c.revision = known_revision
                RETURNING c.created_at, c.revision, c.next_seq, c.next_model, c.next_position INTO head;
                EXIT WHEN FOUND;
                IF is_decided THEN
                    RAISE insufficient_privilege USING MESSAGE = 'this account may not change the row of the context';
                END IF;
                decision := taskctx_decide_v1(
                    save.context_id, save.user_id, save.chat_id, save.saved_at, save.run_id, save.save_number,
                    save.base_created_at, save.base_revision, save.base_newest, save.if_unchanged, save.makes_revision,
                    save.operation, save.metadata, save.toggles, save.changes);
                EXIT WHEN decision.answer IS NOT NULL;
                is_decided := true;
                known_created_at := decision.created_at;
                known_revision := decision.revision;
                save.metadata := decision.metadata;
                save.toggles := decision.toggles;
                save.update_count := save.update_count + decision.copied_updates;
                save.model_count := save.model_count + decision.copied_models;
                save.changes := decision.changes;
            END LOOP;
            IF head IS NULL THEN
                answers[place] := decision.answer::text;
                CONTINUE;
            END IF;

            INSERT INTO taskctx_runs (context_id, run_id, started_at, ended_at, outcome, error, saves)
            VALUES (save.context_id, save.run_id, save.started_at, save.ended_at, save.outcome, save.error,
                    save.save_number)
            ON CONFLICT (context_id, run_id) DO UPDATE
            SET ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error,
                saves = excluded.saves;
            -- What an operation does is a revision of its own, the newest one: undoing it keeps what changed beside it.
            saved_revision := head.revision - (save.operation IS NOT NULL AND save.makes_revision)::integer;
            IF save.makes_revision THEN
                INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq,
                                               next_model, next_position, metadata, metadata_toggles, changed_state)
                VALUES (save.context_id, saved_revision, save.saved_at, save.run_id, save.save_number, head.next_seq,
                        head.next_model, head.next_position, save.metadata, save.toggles,
                        CASE json_typeof(save.changes -> 'state')
                            WHEN 'array' THEN json_array_length(save.changes -> 'state') END);
            END IF;
            IF save.updates IS NOT NULL THEN
                INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, exact, added_in,
                                             run_id)
                SELECT save.context_id, head.next_seq - save.update_count - 1 + u.n, u.timestamp, u.update_type, u.data,
                       u.metadata, u.exact, saved_revision, save.run_id
                FROM ROWS FROM (
                    json_to_recordset(save.updates)
                    AS (timestamp double precision, update_type text, data text, metadata text, exact text)
                ) WITH ORDINALITY AS u (timestamp, update_type, data, metadata, exact, n);
            END IF;
            IF save.changes IS NOT NULL THEN
                PERFORM taskctx_save_changes_v1(
                    save.context_id, save.run_id, save.save_number, save.saved_at, save.operation, saved_revision,
                    head.revision, head.next_seq, head.next_model, head.next_position, save.metadata, save.toggles,
                    save.model_count, save.position_count, save.changes);
            END IF;
            answers[place] := json_build_array(
                'saved', head.created_at, head.revision, head.next_seq, head.next_model, head.next_position);
        END;
    END LOOP;
    RETURN '[' || array_to_string(answers, ',') || ']';
END
$function$;

-- Decides what a save does to a context that is new, or that somebody else has saved to since, and what a restore does.
-- Either there is an answer, and nothing was changed; or the context's row is locked, as of ``revision``, and the save
-- is one that nobody came before.
CREATE FUNCTION taskctx_decide_v1(
    saved_context text, new_user text, new_chat text, saved_at double precision, run text, save_number bigint,
    base_created_at double precision, base_revision bigint, base_newest bigint, if_unchanged boolean,
    makes_revision boolean, operation text, INOUT metadata text, INOUT toggles text, INOUT changes json,
    OUT answer json, OUT created_at double precision, OUT revision bigint, OUT copied_updates bigint,
    OUT copied_models bigint
)
LANGUAGE plpgsql AS $function$
DECLARE
    restores boolean := coalesce(operation IN ('restore', 'undo'), false);
    head record;
    counted bigint;
    rounds integer := 0;
BEGIN
    copied_updates := 0;
    copied_models := 0;
    LOOP
        SELECT c.* INTO head FROM taskctx_contexts c WHERE c.context_id = saved_context FOR UPDATE;
        EXIT WHEN FOUND;
        IF row_security_active('taskctx_contexts') AND coalesce(current_setting('taskctx.user_id', true), '') = '' THEN
            -- It was switched on while the program had the database open.
            RAISE insufficient_privilege USING MESSAGE = 'row-level security is on, and the save names no user';
        END IF;
        IF base_created_at IS NOT NULL OR base_newest > 0 THEN
            answer := json_build_array('lost');
            RETURN;
        END IF;
        IF restores THEN
            answer := json_build_array('no such revision', 0, NULL);
            RETURN;
        END IF;
        IF base_revision > 0 THEN
            answer := json_build_array('stale', 0, false);
            RETURN;
        END IF;
        -- Two first saves come one after the other: the second one finds the row of the first.
        INSERT INTO taskctx_contexts (context_id, user_id, chat_id, metadata, metadata_toggles, revision, next_seq,
                                      next_model, next_position, created_at, updated_at)
        VALUES (saved_context, new_user, new_chat, '{}', '{}', 0, 1, 1, 1, saved_at, saved_at)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            created_at := saved_at;
            revision := 0;
            RETURN;
        END IF;
        rounds := rounds + 1;
        IF rounds > 5 THEN
            RAISE insufficient_privilege USING MESSAGE = 'row-level security hides a row with the id of the context';
        END IF;
    END LOOP;
    created_at := head.created_at;
    revision := head.revision;
    IF base_created_at <> head.created_at OR head.revision < base_newest THEN
        -- It was deleted and created anew, or the database was set back to an older state.
        answer := json_build_array('lost');
        RETURN;
    END IF;
    IF head.revision = 0 THEN
        -- It is being copied in or deleted, and is not there for anybody else.
        IF restores THEN
            answer := json_build_array('no such revision', 0, NULL);
            RETURN;
        END IF;
        IF base_revision > 0 THEN
            answer := json_build_array('stale', 0, false);
            RETURN;
        END IF;
        DELETE FROM taskctx_updates t WHERE t.context_id = saved_context;
        DELETE FROM taskctx_models t WHERE t.context_id = saved_context;
        DELETE FROM taskctx_files t WHERE t.context_id = saved_context;
        DELETE FROM taskctx_state t WHERE t.context_id = saved_context;
        DELETE FROM taskctx_revisions t WHERE t.context_id = saved_context;
        DELETE FROM taskctx_runs t WHERE t.context_id = saved_context;
        UPDATE taskctx_contexts c
        SET metadata = '{}', metadata_toggles = '{}', next_seq = 1, next_model = 1, next_position = 1,
            created_at = saved_at, updated_at = saved_at, pruned_until = NULL
        WHERE c.context_id = saved_context;
        created_at := saved_at;
        RETURN;
    END IF;
    IF head.revision <> base_revision THEN
        -- Somebody has saved since; it may have been a copy of this very save.
        SELECT r.saves INTO counted FROM taskctx_runs r WHERE r.context_id = saved_context AND r.run_id = run;
        IF counted <> save_number - 1 THEN
            answer := taskctx_answer_again_v1(saved_context, base_revision, run, save_number,
                                              makes_revision OR operation IS NOT NULL);
            RETURN;
        END IF;
        IF if_unchanged THEN
            answer := json_build_array('stale', head.revision, false);
            RETURN;
        END IF;
    END IF;
    IF restores THEN
        SELECT r.metadata, r.toggles, r.next_seq - head.next_seq, r.next_model - head.next_model, r.refusal, r.effect
        INTO metadata, toggles, copied_updates, copied_models, answer, changes
        FROM taskctx_restore_v1(
            saved_context, operation = 'undo', head.revision + 1, run, coalesce(head.pruned_until, 0),
            (changes ->> 'source_revision')::bigint, head.next_seq, head.next_model) AS r;
    ELSIF head.revision <> base_revision AND changes IS NOT NULL THEN
        IF metadata IS NOT NULL THEN
            metadata := taskctx_merged_v1(
                head.metadata, metadata, changes -> 'metadata_changed', changes -> 'metadata_removed');
        END IF;
        IF toggles IS NOT NULL THEN
            toggles := taskctx_merged_v1(
                head.metadata_toggles, toggles, changes -> 'toggles_changed', changes -> 'toggles_removed');
        END IF;
        changes := taskctx_current_changes_v1(saved_context, base_revision, changes);
        IF changes IS NULL THEN
            answer := json_build_array('stale', head.revision, true);
        END IF;
    END IF;
END
$function$;

-- The answer to a save that was written before.
CREATE FUNCTION taskctx_answer_again_v1(
    saved_context text, base_revision bigint, run text, number bigint, has_revision boolean
) RETURNS json
LANGUAGE plpgsql AS $function$
DECLARE
    head record;
BEGIN
    SELECT c.created_at, c.revision, c.next_seq, c.next_model, c.next_position INTO head
    FROM taskctx_contexts c WHERE c.context_id = saved_context;
    IF has_revision THEN
        -- A save with an operation has two: the newest is its answer.
        SELECT head.created_at, v.revision, v.next_seq, v.next_model, v.next_position INTO head
        FROM taskctx_revisions v
        WHERE v.context_id = saved_context AND v.revision > base_revision AND v.run_id = run AND v.save_number = number
        ORDER BY v.revision DESC LIMIT 1;
        IF NOT FOUND THEN
            -- The run has counted another save: the database was set back to an older state.
            RETURN json_build_array('lost');
        END IF;
    END IF;
    RETURN json_build_array(
        'saved before', head.created_at, head.revision, head.next_seq, head.next_model, head.next_position);
END
$function$;
