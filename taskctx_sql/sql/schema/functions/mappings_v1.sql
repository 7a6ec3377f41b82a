-- The entries of a mapping, as the library encodes it: their keys and values as JSON, in order. NULL if it is no mapping.
CREATE FUNCTION taskctx_entries_v1(mapping text, OUT keys text[], OUT entries text[])
LANGUAGE plpgsql IMMUTABLE AS $function$
DECLARE
    name text;
    -- An object with one of these as its only key stands for another value; docs/values.md lists them.
    tags text[] := '{__datetime__,__date__,__time__,__timedelta__,__uuid__,__decimal__,__bytes__,__path__,__tuple__,'
                   '__set__,__frozenset__,__items__,__int__,__float__,__str__}';
BEGIN
    IF json_typeof(mapping::json) <> 'object' THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(to_json(e.key)::text ORDER BY e.n), '{}'),
           coalesce(array_agg(e.value::text ORDER BY e.n), '{}'), min(e.key)
    INTO keys, entries, name
    FROM json_each(mapping::json) WITH ORDINALITY AS e (key, value, n);
    IF cardinality(keys) = 1 AND name = ANY (tags) THEN
        keys := NULL;
        entries := NULL;
        IF name = '__items__' AND json_typeof(mapping::json -> name) = 'array' THEN
            SELECT coalesce(array_agg(taskctx_key_v1(e.pair -> 0) ORDER BY e.n), '{}'),
                   coalesce(array_agg((e.pair -> 1)::text ORDER BY e.n), '{}')
            INTO keys, entries
            FROM json_array_elements(mapping::json -> '__items__') WITH ORDINALITY AS e (pair, n);
        END IF;
    END IF;
END
$function$;

-- A key of a mapping as JSON, the same for the same key.
CREATE FUNCTION taskctx_key_v1(key json) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $function$
BEGIN
    RETURN CASE json_typeof(key) WHEN 'string' THEN to_json(key #>> '{}')::text ELSE key::text END;
END
$function$;

-- The JSON of a mapping with these entries, as the library encodes it.
CREATE FUNCTION taskctx_mapping_v1(keys text[], entries text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $function$
DECLARE
    is_object boolean;
    object text;
BEGIN
    SELECT coalesce(bool_and(k LIKE '"%'), true) INTO is_object FROM unnest(keys) AS k;
    IF is_object THEN
        SELECT '{' || coalesce(string_agg(e.key || ':' || e.entry, ',' ORDER BY e.n), '') || '}' INTO object
        FROM unnest(keys, entries) WITH ORDINALITY AS e (key, entry, n);
        -- One that would be read as something else is written as a list.
        IF (taskctx_entries_v1(object)).keys IS NOT DISTINCT FROM keys THEN
            RETURN object;
        END IF;
    END IF;
    SELECT '{"__items__":[' || string_agg('[' || e.key || ',' || e.entry || ']', ',' ORDER BY e.n) || ']}' INTO object
    FROM unnest(keys, entries) WITH ORDINALITY AS e (key, entry, n);
    RETURN object;
END
$function$;

-- A stored mapping with a change on top: the keys of ``whole`` that changed, and those that were removed.
CREATE FUNCTION taskctx_merged_v1(stored text, whole text, changed json, removed json) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $function$
DECLARE
    old record := taskctx_entries_v1(stored);
    new record := taskctx_entries_v1(whole);
    changes text[];
    removals text[];
    result record;
BEGIN
    IF old.keys IS NULL OR new.keys IS NULL THEN
        RETURN whole;
    END IF;
    SELECT coalesce(array_agg(taskctx_key_v1(key)), '{}') INTO changes FROM json_array_elements(changed) AS key;
    SELECT coalesce(array_agg(taskctx_key_v1(key)), '{}') INTO removals FROM json_array_elements(removed) AS key;
    WITH kept AS (
        SELECT * FROM unnest(old.keys, old.entries) WITH ORDINALITY AS e (key, entry, n) WHERE key <> ALL (removals)
    ),
    given AS (
        SELECT * FROM unnest(new.keys, new.entries) WITH ORDINALITY AS e (key, entry, n) WHERE key = ANY (changes)
    ),
    merged AS (
        SELECT key, coalesce(given.entry, kept.entry) AS entry, kept.n AS place, given.n
        FROM kept FULL JOIN given USING (key)
    )
    SELECT coalesce(array_agg(key ORDER BY place NULLS LAST, n), '{}') AS keys,
           coalesce(array_agg(entry ORDER BY place NULLS LAST, n), '{}') AS entries
    INTO result FROM merged;
    RETURN taskctx_mapping_v1(result.keys, result.entries);
END
$function$;

-- A mapping without the change from ``before`` to ``after``, except for keys that were changed again since.
CREATE FUNCTION taskctx_taken_back_v1(before text, after text, current text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $function$
DECLARE
    old record := taskctx_entries_v1(before);
    changed record := taskctx_entries_v1(after);
    now record := taskctx_entries_v1(current);
    result record;
BEGIN
    IF current = after THEN
        RETURN before;
    END IF;
    IF before = after OR old.keys IS NULL OR changed.keys IS NULL OR now.keys IS NULL THEN
        RETURN current;
    END IF;
    WITH old_entries AS (SELECT * FROM unnest(old.keys, old.entries) WITH ORDINALITY AS e (key, entry, n)),
    changed_entries AS (SELECT * FROM unnest(changed.keys, changed.entries) AS e (key, entry)),
    current_entries AS (SELECT * FROM unnest(now.keys, now.entries) WITH ORDINALITY AS e (key, entry, n)),
    -- Without an entry: one that the change removed.
    all_entries AS (
        SELECT key, c.n AS place, o.n,
               CASE WHEN c.entry IS NOT DISTINCT FROM t.entry THEN o.entry ELSE c.entry END AS entry
        FROM current_entries c FULL JOIN old_entries o USING (key) LEFT JOIN changed_entries t USING (key)
    )
    SELECT coalesce(array_agg(key ORDER BY place NULLS LAST, n), '{}') AS keys,
           coalesce(array_agg(entry ORDER BY place NULLS LAST, n), '{}') AS entries
    INTO result FROM all_entries WHERE entry IS NOT NULL;
    RETURN taskctx_mapping_v1(result.keys, result.entries);
END
$function$;

