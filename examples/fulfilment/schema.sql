-- The application's own table. A new order starts fulfil_order. blueprint.yaml has the trigger that approves it.

create table orders (
    id bigint generated always as identity primary key,
    email text not null,
    card text not null,
    cents integer not null,
    items text[] not null,
    approved_by text
);

create function start_fulfilment() returns trigger
    language plpgsql
as $$
begin
    perform app_jobs.add_job(
        'fulfil_order',
        json_build_object(
            'id', new.id, 'email', new.email, 'card', new.card, 'cents', new.cents, 'items', new.items
        ),
        job_key := 'order-' || new.id
    );
    return new;
end
$$;

create trigger start_fulfilment after insert on orders for each row execute function start_fulfilment();
