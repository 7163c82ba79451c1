"""Stand-ins for the platform's tables of function definitions, as far as jobfn reads and writes them."""

#: The form of June 2026.
WITH_URLS = """
create schema compute_public;
create type compute_public.function_requirement as (name text, required boolean);
create table compute_public.platform_function_definitions (
    id uuid primary key default gen_random_uuid(),
    scope text not null,
    name text not null,
    task_identifier text not null,
    service_url text,
    description text,
    queue_name text not null default 'default',
    max_attempts int not null default 25,
    is_invocable boolean not null default false,
    required_secrets compute_public.function_requirement[] not null default '{}',
    inputs jsonb not null default '[]',
    unique (scope, name)
);
"""

#: The form of August 2026: the identifier is computed, and the URL is elsewhere.
WITH_CATEGORIES = """
create schema if not exists compute_public;
create type compute_public.resource_requirement as (name text, required boolean, provider text);
create table compute_public.function_definitions (
    id uuid primary key default gen_random_uuid(),
    database_id uuid not null,
    category text not null,
    name text not null,
    task_identifier text generated always as (category || ':' || name) stored,
    description text,
    timeout_seconds int,
    required_secrets compute_public.resource_requirement[] not null default '{}',
    required_configs compute_public.resource_requirement[] not null default '{}',
    inputs jsonb
);
"""
