-- A stand-in for the platform's engine of flow graphs: it records how nodes end, and adds the job of the next node.

create schema graphs_private;

create table graphs_private.executions (id uuid primary key, status text not null default 'running', error text);
create table graphs_private.nodes (execution_id uuid, name text, output jsonb, error_code text, error text);

create function graphs_private.platform_complete_node(execution_id uuid, node_name text, output_data jsonb)
    returns void language plpgsql security definer as $$
begin
    if not exists (
        select from graphs_private.executions e
        where e.id = platform_complete_node.execution_id and e.status = 'running'
    ) then
        raise exception 'execution is not running';
    end if;
    insert into graphs_private.nodes values (execution_id, node_name, output_data);
    if node_name = 'first' then
        insert into app_jobs.jobs (task_identifier, payload) values ('second', json_build_object(
            'execution_id', execution_id, 'node_name', 'then', 'node_type', 'second', 'inputs', output_data, 'props', null
        ));
    end if;
end
$$;

create function graphs_private.platform_fail_node(execution_id uuid, node_name text, error_code text, error_message text)
    returns void language plpgsql security definer as $$
begin
    update graphs_private.executions e set status = 'failed', error = error_message
    where e.id = execution_id and e.status = 'running';
    if not found then
        raise exception 'execution is not running';
    end if;
    insert into graphs_private.nodes values (execution_id, node_name, null, error_code, error_message);
end
$$;
