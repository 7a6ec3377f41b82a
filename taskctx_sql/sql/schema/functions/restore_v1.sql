-- Mappings as of a revision: the newest value until then.
CREATE FUNCTION taskctx_mappings_at_v1(saved_context text, at_revision bigint, OUT metadata text, OUT toggles text)
LANGUAGE plpgsql STABLE AS $function$
BEGIN
    metadata := coalesce((SELECT v.metadata FROM taskctx_revisions v
                          WHERE v.context_id = saved_context AND v.revision <= at_revision AND v.metadata IS NOT NULL
                          ORDER BY v.revision DESC LIMIT 1), '{}');
    toggles := coalesce((SELECT v.metadata_toggles FROM taskctx_revisions v
                         WHERE v.context_id = saved_context AND v.revision <= at_revision
                               AND v.metadata_toggles IS NOT NULL
                         ORDER BY v.revision DESC LIMIT 1), '{}');
END
$function$;

-- Makes the entries of a table those that a revision had, or if ``undoes`` those that there would be without it. A
-- missing entry is written again, as a copy; ``by_time`` orders the copies by their time. The order of the history is
-- that of the seqs, so what follows the first missing entry is copied as well. Rows of one entry have one root.
CREATE FUNCTION taskctx_restore_rows_v1(
    kind text, saved_context text, origin bigint, new_revision bigint, run text, undoes boolean, by_time boolean,
    INOUT next_seq bigint, OUT added bigint, OUT removed bigint
)
LANGUAGE plpgsql AS $function$
DECLARE
    -- As before this restore: without what it has written, and with what it has removed.
    is_live text := 'coalesce(bool_or((removed_in IS NULL OR removed_in = $3) AND added_in < $3) %1$s, false)';
    is_wanted text := 'coalesce(bool_or(added_in <= $2 AND (removed_in IS NULL OR removed_in > $2)) %1$s, false)';
    missing bigint[];
    others bigint[];
    first bigint;
    copied text;
    copies bigint;
BEGIN
    IF undoes THEN
        -- What it added goes and what it removed comes back; what it only wrote anew stays as it is now.
        is_wanted := 'CASE WHEN bool_or(added_in = $2) %1$s'
                     ' THEN coalesce(bool_or(removed_in = $2) %1$s, false) AND ' || is_live ||
                     ' ELSE coalesce(bool_or(removed_in = $2) %1$s, false) OR ' || is_live || ' END';
    END IF;
    EXECUTE format(
        'SELECT array_agg(root) FILTER (WHERE NOT is_live), array_agg(seq) FILTER (WHERE is_live) FROM ('
        '  SELECT coalesce(copy_of, seq) AS root, ' || format(is_live, '') || ' AS is_live,'
        '         max(seq) FILTER (WHERE (removed_in IS NULL OR removed_in = $3) AND added_in < $3) AS seq'
        '  FROM %1$I WHERE context_id = $1 GROUP BY coalesce(copy_of, seq)'
        '  HAVING ' || format(is_live, '') || ' <> ' || format(is_wanted, '') || ') AS differing', kind)
    INTO missing, others USING saved_context, origin, new_revision;
    added := coalesce(cardinality(missing), 0);
    removed := coalesce(cardinality(others), 0);
    IF removed > 0 THEN
        EXECUTE format('UPDATE %1$I SET removed_in = $2 WHERE context_id = $1 AND removed_in IS NULL AND seq = ANY ($3)',
                       kind) USING saved_context, new_revision, others;
    END IF;
    IF added > 0 THEN
        SELECT min(root) INTO first FROM unnest(missing) AS root;
        SELECT string_agg(quote_ident(a.attname), ', ') INTO copied
        FROM pg_attribute a
        WHERE a.attrelid = to_regclass(kind) AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname NOT IN ('context_id', 'seq', 'added_in', 'removed_in', 'run_id', 'copy_of');
        -- Rows of one entry are equal, so any of them will do.
        EXECUTE format(
            'INSERT INTO %1$I (context_id, seq, added_in, run_id, copy_of, %2$s)'
            ' SELECT $1, $6 - 1 + row_number() OVER (ORDER BY ' || CASE WHEN by_time THEN 'timestamp, ' ELSE '' END ||
            '     root), $3, $4, ' || CASE WHEN by_time THEN 'NULL' ELSE 'root' END || ', %2$s FROM ('
            '     SELECT *, coalesce(copy_of, seq) AS root,'
            '            row_number() OVER (PARTITION BY coalesce(copy_of, seq) ORDER BY seq DESC) AS rank, ' ||
            format(is_wanted, 'OVER (PARTITION BY coalesce(copy_of, seq))') || ' AS is_wanted'
            '     FROM %1$I WHERE context_id = $1 AND seq >= $5 AND coalesce(copy_of, seq) >= $5) AS marked'
            ' WHERE is_wanted AND rank = 1', kind, copied)
        USING saved_context, origin, new_revision, run, first, next_seq;
        GET DIAGNOSTICS copies = ROW_COUNT;
        next_seq := next_seq + copies;
        EXECUTE format('UPDATE %1$I SET removed_in = $2 WHERE context_id = $1 AND removed_in IS NULL AND added_in < $2'
                       ' AND seq >= $3 AND coalesce(copy_of, seq) >= $3', kind) USING saved_context, new_revision, first;
    END IF;
END
$function$;

-- Makes an earlier revision current, as ``new_revision``, or undoes the newest operation that was not undone.
-- ``refusal`` is the answer to a save that cannot be done; nothing was written then.
CREATE FUNCTION taskctx_restore_v1(
    saved_context text, undoes boolean, new_revision bigint, run text, pruned bigint,
    origin bigint, INOUT next_seq bigint, INOUT next_model bigint, OUT metadata text, OUT toggles text,
    OUT effect json, OUT refusal json
)
LANGUAGE plpgsql AS $function$
DECLARE
    restored bigint := origin;
    takes_back boolean := false;
    by_time boolean := false;
    changed record;
    before record;
    now record;
    added bigint;
    removed bigint;
    changed_state bigint;
BEGIN
    IF undoes THEN
        SELECT max(v.revision) INTO origin FROM taskctx_revisions v
        WHERE v.context_id = saved_context AND v.operation IN ('optimize', 'truncate', 'restore')
              AND NOT EXISTS (SELECT FROM taskctx_revisions u WHERE u.context_id = saved_context
                              AND u.operation = 'undo' AND u.source_revision = v.revision);
        -- The rows that it removed may have been pruned.
        IF origin IS NULL OR origin <= pruned THEN
            refusal := json_build_array('nothing to undo');
            RETURN;
        END IF;
        -- If no save followed it, the revision before it is restored.
        takes_back := EXISTS (SELECT FROM taskctx_revisions v WHERE v.context_id = saved_context
                              AND v.revision > origin AND v.operation IS NULL);
        restored := origin - (NOT takes_back)::integer;
        -- The saves may have written rows anew.
        by_time := takes_back AND EXISTS (
            SELECT FROM taskctx_updates u JOIN taskctx_revisions v
                ON v.context_id = saved_context AND v.revision = u.removed_in AND v.operation IS NULL
            WHERE u.context_id = saved_context AND u.removed_in > origin);
    ELSIF origin < pruned OR NOT EXISTS (SELECT FROM taskctx_revisions v WHERE v.context_id = saved_context
                                         AND v.revision = origin) THEN
        refusal := json_build_array('no such revision', new_revision - 1,
                                    CASE WHEN origin < pruned THEN pruned END);
        RETURN;
    END IF;
    SELECT r.next_seq, r.added, r.removed INTO next_seq, added, removed FROM taskctx_restore_rows_v1(
        'taskctx_updates', saved_context, restored, new_revision, run, takes_back, by_time, next_seq) AS r;
    SELECT r.next_seq INTO next_model FROM taskctx_restore_rows_v1(
        'taskctx_models', saved_context, restored, new_revision, run, takes_back, by_time, next_model) AS r;
    PERFORM taskctx_restore_files_v1(saved_context, restored, new_revision, run, takes_back);
    changed_state := taskctx_restore_state_v1(saved_context, restored, new_revision, run, takes_back);
    now := taskctx_mappings_at_v1(saved_context, new_revision);
    IF takes_back THEN
        before := taskctx_mappings_at_v1(saved_context, restored - 1);
        SELECT v.metadata, v.metadata_toggles AS toggles INTO changed
        FROM taskctx_revisions v WHERE v.context_id = saved_context AND v.revision = restored;
        IF changed.metadata IS NOT NULL THEN
            metadata := taskctx_taken_back_v1(before.metadata, changed.metadata, now.metadata);
        END IF;
        IF changed.toggles IS NOT NULL THEN
            toggles := taskctx_taken_back_v1(before.toggles, changed.toggles, now.toggles);
        END IF;
    ELSE
        before := taskctx_mappings_at_v1(saved_context, restored);
        metadata := before.metadata;
        toggles := before.toggles;
    END IF;
    metadata := nullif(metadata, now.metadata);
    toggles := nullif(toggles, now.toggles);
    effect := json_build_object(
        'restored_from', origin, 'added', added, 'removed', removed, 'changed_state', nullif(changed_state, 0));
END
$function$;

-- Tracks the files as a revision had them, or if ``undoes`` gives each path the version that the revision removed,
-- unless it was changed since. A path has one version at a time, and rows of one version are equal.
CREATE FUNCTION taskctx_restore_files_v1(
    saved_context text, origin bigint, new_revision bigint, run text, undoes boolean
) RETURNS void
LANGUAGE plpgsql AS $function$
DECLARE
    paths text[];
BEGIN
    SELECT array_agg(p.path_id) INTO paths FROM (
        SELECT f.path_id,
               max(coalesce(f.copy_of, f.added_in)) FILTER (WHERE f.removed_in IS NULL) AS current,
               max(coalesce(f.copy_of, f.added_in)) FILTER (WHERE f.added_in = origin) AS added,
               bool_or(f.added_in = origin OR f.removed_in IS NOT DISTINCT FROM origin) AS is_changed,
               bool_or(f.removed_in IS NULL AND f.added_in > origin) AS is_later,
               bool_or(f.added_in <= origin AND f.removed_in > origin) AS is_missing
        FROM taskctx_files f WHERE f.context_id = saved_context GROUP BY f.path_id
    ) AS p
    WHERE CASE WHEN undoes THEN p.is_changed AND p.current IS NOT DISTINCT FROM p.added
               ELSE p.is_later OR p.is_missing END;
    UPDATE taskctx_files f SET removed_in = new_revision
    WHERE f.context_id = saved_context AND f.path_id = ANY (paths) AND f.removed_in IS NULL;
    INSERT INTO taskctx_files (context_id, path_id, added_in, position, path, operation, source, timestamp, state, exact,
                               run_id, copy_of)
    SELECT saved_context, f.path_id, new_revision, f.position, f.path, f.operation, f.source,
           f.timestamp, f.state, f.exact, run, coalesce(f.copy_of, f.added_in)
    FROM taskctx_files f
    WHERE f.context_id = saved_context AND f.path_id = ANY (paths)
          AND CASE WHEN undoes THEN f.removed_in = origin
                   ELSE f.added_in <= origin AND f.removed_in > origin END;
END
$function$;

-- Makes the named values those that a revision had, or if ``undoes`` gives each name the version that the revision
-- removed, unless it was changed since. A name has one version at a time, and rows of one version are equal. Returns how
-- many values changed.
CREATE FUNCTION taskctx_restore_state_v1(
    saved_context text, origin bigint, new_revision bigint, run text, undoes boolean
) RETURNS bigint
LANGUAGE plpgsql AS $function$
DECLARE
    changed record;
    changes bigint := 0;
BEGIN
    FOR changed IN
        SELECT s.kind, s.name FROM taskctx_state s WHERE s.context_id = saved_context GROUP BY s.kind, s.name
        HAVING CASE WHEN undoes THEN
            bool_or(s.added_in = origin OR s.removed_in IS NOT DISTINCT FROM origin)
            AND max(coalesce(s.copy_of, s.added_in)) FILTER (WHERE s.removed_in IS NULL)
                IS NOT DISTINCT FROM max(coalesce(s.copy_of, s.added_in)) FILTER (WHERE s.added_in = origin)
        ELSE
            bool_or(s.removed_in IS NULL AND s.added_in > origin)
            OR coalesce(bool_or(s.added_in <= origin AND s.removed_in > origin), false)
        END
    LOOP
        changes := changes + 1;
        UPDATE taskctx_state s SET removed_in = new_revision
        WHERE s.context_id = saved_context AND s.kind = changed.kind AND s.name = changed.name
              AND s.removed_in IS NULL;
        INSERT INTO taskctx_state (context_id, kind, name, added_in, value, expires_at, saved_at, run_id, copy_of,
                                   parent_id)
        SELECT saved_context, s.kind, s.name, new_revision, s.value, s.expires_at, s.saved_at, run,
               coalesce(s.copy_of, s.added_in), s.parent_id
        FROM taskctx_state s
        WHERE s.context_id = saved_context AND s.kind = changed.kind AND s.name = changed.name
              AND CASE WHEN undoes THEN s.removed_in = origin
                       ELSE s.added_in <= origin AND s.removed_in > origin END;
    END LOOP;
    RETURN changes;
END
$function$;
