-- The owner of these tables migrates, and does nothing else. The operator runs as
-- another role, which may do what this list says and no more. It neither owns nor
-- makes anything, and there is no truncate in it: what is only ever added to, the
-- operator cannot change either.
--
-- A table that is not listed is not there for the operator. What the previous
-- release still needs stays listed until the release after this one.
create function grant_runtime(p_role name) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
    v_table name;
    v_rights text;
begin
    execute format('revoke all on all tables in schema public from %I', p_role);
    execute format('revoke all on schema public from %I', p_role);
    -- Up to Postgres 14, everybody may make tables there.
    revoke create on schema public from public;
    execute format('grant usage on schema public to %I', p_role);
    for v_table, v_rights in values
        ('_sqlx_migrations', 'select'),
        ('leader_term', 'select, update'),
        ('root_key', 'select, insert'),
        ('tenant', 'select, insert, update'),
        ('tenant_key', 'select, insert'),
        ('tenant_secret', 'select, insert'),
        ('token_user', 'select, insert, update'),
        ('workload', 'select, insert, update, delete'),
        ('token', 'select, insert, update'),
        ('consumer', 'select, insert, update, delete'),
        ('token_version', 'select, insert, update'),
        ('quota', 'select, insert, update, delete'),
        ('quota_set', 'select, insert, update'),
        ('quota_window', 'select, insert, update'),
        ('revoked_value', 'select, insert'),
        ('incarnation', 'select, insert, update'),
        ('allowance', 'select, insert, update'),
        ('allowance_charge', 'select, insert, update'),
        ('allowance_standing', 'select'),
        ('access_record', 'select, insert'),
        ('denial', 'select, insert, update, delete'),
        ('integrity_failure', 'insert'),
        ('change_head', 'select, update'),
        ('change', 'select, insert, delete')
    loop
        execute format('grant %s on public.%I to %I', v_rights, v_table, p_role);
    end loop;
end
$$;
revoke execute on function grant_runtime from public;
