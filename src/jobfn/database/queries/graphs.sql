-- Flow graphs of the platform.

-- name: graph_functions
-- The functions that end a node, in each schema that has both, those of the whole platform first: a database may have
-- one pair for each scope, and a name that begins with the scope.
select n.nspname as schema, complete.proname as complete_node, fail.proname as fail_node,
    has_schema_privilege(n.oid, 'usage')
        and has_function_privilege(complete.oid, 'execute')
        and has_function_privilege(fail.oid, 'execute') as is_allowed
from pg_catalog.pg_proc complete
join pg_catalog.pg_namespace n on n.oid = complete.pronamespace
join pg_catalog.pg_proc fail
    on fail.pronamespace = n.oid
    and fail.proname = left(complete.proname, -length('complete_node')) || 'fail_node'
    and oidvectortypes(fail.proargtypes) = 'uuid, text, text, text'
where complete.proname ~ '^(.+_)?complete_node$' and oidvectortypes(complete.proargtypes) = 'uuid, text, jsonb'
order by coalesce(array_position(
    array['platform_complete_node', 'app_complete_node', 'database_complete_node'], complete.proname::text
), 4), n.nspname, complete.proname
limit 1
