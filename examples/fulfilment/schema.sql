-- The application's own table. A new order starts fulfil_order; a change of approved_by approves it.

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

-- In the transaction of the update: if it rolls back, there is no signal.
create function approve_order() returns trigger
    language plpgsql
as $$
begin
    perform app_jobs.signal('order-' || new.id, 'approved', json_build_object('by', new.approved_by));
    return new;
end
$$;

create trigger approve_order after update on orders for each row
    when (old.approved_by is null and new.approved_by is not null)
    execute function approve_order();
