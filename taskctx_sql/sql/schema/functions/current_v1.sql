-- The changes of a save with the rows that it removes under their current seqs, since others have saved after it had
-- seen ``seen``. NULL if the save is stale.
CREATE FUNCTION taskctx_current_changes_v1(saved_context text, seen bigint, changes json) RETURNS json
LANGUAGE plpgsql AS $function$
DECLARE
    given record;
    removed_updates bigint[];
    dropped_updates bigint[];
    removed_models bigint[];
BEGIN
    SELECT * INTO given FROM json_to_record(changes) AS r (
        if_there boolean, removed_updates bigint[], dropped_updates bigint[], again_updates bigint[],
        removed_models bigint[], again_models bigint[], models json, changed_paths json, files json, state json
    );
    removed_updates := taskctx_current_seqs_v1(
        'taskctx_updates', saved_context, given.removed_updates, seen, given.if_there, given.again_updates);
    dropped_updates := taskctx_current_seqs_v1(
        'taskctx_updates', saved_context, given.dropped_updates, seen, given.if_there, given.again_updates);
    removed_models := taskctx_current_seqs_v1(
        'taskctx_models', saved_context, given.removed_models, seen, given.if_there, given.again_models);
    IF -1 = ANY (removed_updates || dropped_updates || removed_models) THEN
        RETURN NULL;
    END IF;
    RETURN json_build_object(
        'removed_updates', removed_updates, 'dropped_updates', dropped_updates, 'removed_models', removed_models,
        'models', given.models, 'changed_paths', given.changed_paths, 'files', given.files,
        'state', given.state);
END
$function$;

-- Under which seqs rows that a save removes are there now, since others have saved after it had seen ``seen``: they may
-- have removed rows, or a restore may have written them anew. {-1} if the save is stale: an edit wrote them anew, or
-- what others removed would come back.
CREATE FUNCTION taskctx_current_seqs_v1(
    kind text, saved_context text, seqs bigint[], seen bigint, if_there boolean, again bigint[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $function$
DECLARE
    current_seqs bigint[];
    gone bigint[];
    found_again boolean;
BEGIN
    IF seqs IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format($query$
        -- A row that was pruned is its own root.
        WITH given AS (
            SELECT s.seq, coalesce(t.copy_of, s.seq) AS root, t.seq IS NOT NULL AND t.removed_in IS NULL AS is_live
            FROM unnest($2) AS s (seq) LEFT JOIN %1$I t ON t.context_id = $1 AND t.seq = s.seq
        ),
        copies AS (
            SELECT t.seq, t.copy_of FROM %1$I t
            WHERE t.context_id = $1 AND t.removed_in IS NULL
                  AND t.copy_of = ANY (ARRAY(SELECT root FROM given WHERE NOT is_live))
                  AND EXISTS (SELECT FROM taskctx_revisions v WHERE v.context_id = $1 AND v.revision > $3
                              AND v.operation IN ('restore', 'undo'))
        )
        SELECT array_agg(CASE WHEN given.is_live THEN given.seq ELSE copies.seq END)
                   FILTER (WHERE given.is_live OR copies.seq IS NOT NULL),
               array_agg(given.seq) FILTER (WHERE NOT given.is_live AND copies.seq IS NULL)
        FROM given LEFT JOIN copies ON NOT given.is_live AND copies.copy_of = given.root
        $query$, kind) INTO current_seqs, gone USING saved_context, seqs, seen;
    IF if_there AND gone IS NOT NULL THEN
        -- An edit gives the rows that follow it new seqs without a root, so they are compared by time and type. Rows
        -- that were pruned cannot be compared.
        EXECUTE format($query$
            SELECT (SELECT count(*) FROM %1$I t WHERE t.context_id = $1 AND t.seq = ANY ($2)) < cardinality($2)
                   OR EXISTS (
                       SELECT FROM %1$I t JOIN %1$I n ON n.context_id = $1 AND n.removed_in IS NULL AND n.added_in > $3
                           AND n.timestamp IS NOT DISTINCT FROM t.timestamp AND n.%2$I IS NOT DISTINCT FROM t.%2$I
                       WHERE t.context_id = $1 AND t.seq = ANY ($2)
                   )
            $query$, kind, CASE kind WHEN 'taskctx_updates' THEN 'update_type' ELSE 'model_id' END)
        INTO found_again USING saved_context, gone, seen;
        IF found_again OR gone && again THEN
            RETURN '{-1}';
        END IF;
    END IF;
    RETURN coalesce(current_seqs, '{}');
END
$function$;

