-- How long records are kept. Set by whoever migrates; the operator can only read it.
create table audit_retention (
    singleton boolean primary key default true check (singleton),
    -- Whole days of UTC behind today.
    days integer not null check (days >= 1)
);
insert into audit_retention (days) values (90);

-- Refuses a day with records of a tenant that has no boundary behind them. What is there
-- of a tenant that never was is nobody's.
create function check_boundaries(p_day date, p_partition regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
    v_tenant uuid;
begin
    loop
        -- The next tenant that has records there, by the primary key.
        execute format(
            'select tenant_id from %s where tenant_id > $1 or $1 is null
             order by tenant_id limit 1', p_partition) into v_tenant using v_tenant;
        exit when v_tenant is null;
        if exists (select from public.tenant where tenant_id = v_tenant) and not exists (
            select from public.checkpoint
            where tenant_id = v_tenant and kind = 'Boundary' and through_day = p_day
        ) then
            raise exception 'tenant % has records of % and no boundary behind them',
                v_tenant, p_day;
        end if;
    end loop;
end
$$;
revoke execute on function check_boundaries from public;

-- Drops the records of a day, in UTC: false when there are none. From then on the
-- chains that had some begin behind the boundary. It is all that the operator can do
-- to records, and it is refused for a day within the retention and for one that has
-- no boundary of each tenant with records in it.
create function drop_audit_partition(p_day date) returns boolean
language plpgsql
security definer set search_path = pg_catalog, pg_temp
-- Reports wait while this waits for readers.
set lock_timeout = '1s' as $$
declare
    v_days integer := (select days from public.audit_retention);
    v_today date := (clock_timestamp() at time zone 'UTC')::date;
    v_partition regclass;
begin
    -- The name of a partition does not tell years before Christ from those after.
    if p_day is null or p_day < date '2000-01-01' then
        raise exception 'there are no records of %', coalesce(p_day::text, 'no day');
    end if;
    if p_day >= v_today - v_days then
        raise exception 'the records of % are kept: the retention is % days', p_day, v_days;
    end if;
    select inhrelid into v_partition from pg_inherits
    where inhparent = 'public.access_record'::regclass
      and inhrelid = to_regclass('public.access_record_' || to_char(p_day, 'YYYYMMDD'));
    if not found then
        return false;
    end if;
    -- First while reports go on, so that it is known to be short when they wait.
    perform public.check_boundaries(p_day, v_partition);
    lock table public.access_record in access exclusive mode;
    perform public.check_boundaries(p_day, v_partition);
    update public.audit_chain c
    set boundary_no = h.record_no, boundary_mac = h.mac
    from public.checkpoint_head h
    where (h.tenant_id, h.checkpoint_no) in (
        select tenant_id, max(checkpoint_no) from public.checkpoint
        where kind = 'Boundary' and through_day = p_day
        group by tenant_id)
      and c.tenant_id = h.tenant_id and c.chain_id = h.chain_id;
    execute format('drop table %s', v_partition);
    return true;
end
$$;
revoke execute on function drop_audit_partition from public;

-- Deletes heads that name only records that were dropped: those of Regular checkpoints from
-- before the end of a dropped day, behind its boundary. Whole checkpoints, so that one has
-- all of its heads or none, until about 10,000 rows are gone. Gives the checkpoint behind
-- which to go on; null: there are no more.
create function trim_checkpoint_heads(p_tenant uuid, p_after bigint) returns bigint
language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_days integer := (select days from public.audit_retention);
    v_today date := (clock_timestamp() at time zone 'UTC')::date;
    v_boundary_no bigint;
    v_end_time timestamptz;
    v_no bigint := p_after;
    v_kind text;
    v_time timestamptz;
    v_done bigint := 0;
    v_deleted bigint;
begin
    select checkpoint_no, (through_day + 1)::timestamp at time zone 'UTC'
    into v_boundary_no, v_end_time
    from public.checkpoint
    where tenant_id = p_tenant and kind = 'Boundary' and through_day < v_today - v_days
    order by through_day desc, checkpoint_no desc limit 1;
    while v_done < 10000 loop
        select checkpoint_no into v_no from public.checkpoint_head
        where tenant_id = p_tenant and checkpoint_no > v_no and checkpoint_no < v_boundary_no
        order by checkpoint_no limit 1;
        if not found then
            return null;
        end if;
        select kind, checkpoint_time into v_kind, v_time from public.checkpoint
        where tenant_id = p_tenant and checkpoint_no = v_no;
        -- Their times go up with their numbers.
        if v_time >= v_end_time then
            return null;
        end if;
        v_done := v_done + 1;
        if v_kind = 'Regular' then
            -- Not while a record that it names is there, or was cut. A chain that was deleted
            -- has neither.
            delete from public.checkpoint_head
            where tenant_id = p_tenant and checkpoint_no = v_no and not exists (
                select from public.checkpoint_head h
                join public.audit_chain c using (tenant_id, chain_id)
                where h.tenant_id = p_tenant and h.checkpoint_no = v_no
                  and h.record_no > coalesce(c.boundary_no, 0));
            get diagnostics v_deleted = row_count;
            v_done := v_done + v_deleted;
        end if;
    end loop;
    return v_no;
end
$$;
revoke execute on function trim_checkpoint_heads from public;

-- Deletes chains that nobody adds to any more, of which every record was dropped: of runs
-- that are gone. An id of a run is never given again. Gives how many, 10,000 at most.
create function trim_audit_chains(p_tenant uuid) returns bigint
language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_deleted bigint;
begin
    delete from public.audit_chain
    where tenant_id = p_tenant and chain_id in (
        select c.chain_id from public.audit_chain c
        where c.tenant_id = p_tenant and c.chain_id <> c.tenant_id
          and c.record_no = c.boundary_no and c.mac = c.boundary_mac
          and not exists (
              select from public.incarnation i
              where i.tenant_id = c.tenant_id and i.incarnation_id = c.chain_id)
          and not exists (
              select from public.access_record r
              where r.tenant_id = c.tenant_id and r.chain_id = c.chain_id)
          -- A head that names more than was dropped tells that the chain was cut.
          and not exists (
              select from public.checkpoint_head h
              where h.tenant_id = c.tenant_id and h.chain_id = c.chain_id
                and h.record_no > c.boundary_no)
        limit 10000);
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;
revoke execute on function trim_audit_chains from public;

-- The owner of the tables migrates, and does nothing else. The operator runs as
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
    execute format('revoke all on all functions in schema public from %I', p_role);
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
        ('quota_window', 'select, insert, update, delete'),
        ('slow_start', 'select, insert, update, delete'),
        ('revoked_value', 'select, insert'),
        ('incarnation', 'select, insert, update, delete'),
        ('allowance', 'select, insert, update, delete'),
        ('allowance_charge', 'select, insert, update, delete'),
        ('allowance_standing', 'select'),
        ('access_record', 'select, insert'),
        ('audit_chain', 'select, insert (tenant_id, chain_id, record_no, recorded_time, mac),
                         update (record_no, recorded_time, mac)'),
        ('checkpoint', 'select, insert'),
        ('checkpoint_head', 'select, insert'),
        ('audit_retention', 'select'),
        ('denial', 'select, insert, update, delete'),
        ('denial_told', 'select, insert, update, delete'),
        ('idempotency_key', 'select, insert, update, delete'),
        ('integrity_failure', 'insert'),
        ('change_head', 'select, update'),
        ('change', 'select, insert, delete')
    loop
        execute format('grant %s on public.%I to %I', v_rights, v_table, p_role);
    end loop;
    execute format('grant execute on function public.create_audit_partitions() to %I', p_role);
    execute format('grant execute on function public.drop_audit_partition(date) to %I', p_role);
    execute format('grant execute on function public.trim_checkpoint_heads(uuid, bigint) to %I',
                   p_role);
    execute format('grant execute on function public.trim_audit_chains(uuid) to %I', p_role);
end
$$;
revoke execute on function grant_runtime from public;
