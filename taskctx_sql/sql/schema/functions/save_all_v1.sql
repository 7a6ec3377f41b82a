-- Saves contexts as taskctx_save_v1 does, all or nothing, in a statement that needs no transaction around it: if one of the
-- saves is refused, the call fails with the SQLSTATE TC001, and its detail is what taskctx_save_v1 returned.
CREATE FUNCTION taskctx_save_all_v1(first_context text, request text) RETURNS text
LANGUAGE plpgsql AS $function$
DECLARE
    answers text := taskctx_save_v1(first_context, request, true);
BEGIN
    IF EXISTS (
        SELECT FROM json_array_elements(answers::json) AS a (answer)
        WHERE a.answer ->> 0 NOT IN ('saved', 'saved before')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'TC001', MESSAGE = 'one of the saves is refused', DETAIL = answers;
    END IF;
    RETURN answers;
END
$function$;
