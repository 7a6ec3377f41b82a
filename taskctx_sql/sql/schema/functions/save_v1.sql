-- Saves one context in one call: the whole decision, and everything it writes.
CREATE FUNCTION taskctx_save_v1(context_id text, request text, waits boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
AS $function$
BEGIN
    RAISE EXCEPTION 'taskctx_save_v1 is not written yet' USING ERRCODE = 'feature_not_supported';
END
$function$;
