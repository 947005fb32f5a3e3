-- The vault. Every row that decides access carries a MAC (column `mac`) over
-- its deciding columns, under a key derived from the tenant key whose version
-- stands in `key_version`: whoever can write here can destroy, not forge.
--
-- Every key begins with tenant_id and no transaction spans two tenants, so
-- that a tenant can move to a database of its own. The exceptions are
-- leader_term, root_key, tenant and change_head/change (by shard).

-- Controllers' writes carry the term they were elected in; an older one is refused.
create table leader_term (
    singleton boolean primary key default true check (singleton),
    term bigint not null check (term >= 0)
);
insert into leader_term (term) values (0);

-- A root key is never here: only a constant sealed under it, by which the
-- vault notices at start that it was given another key of the same number.
create table root_key (
    root_version integer primary key check (root_version >= 1),
    check_value bytea not null,
    created_time timestamptz not null default now()
);

-- A namespace of a cluster, by UID: a recreated namespace is a new tenant.
create table tenant (
    tenant_id uuid primary key,
    shard smallint not null check (shard between 0 and 15),
    cluster_id text not null,
    namespace text not null,
    namespace_uid text not null,
    -- The tenant key in use for new rows.
    key_version integer not null check (key_version >= 1),
    created_time timestamptz not null default now(),
    -- Set when the namespace was recreated: nothing is served from here again.
    retired_time timestamptz,
    mac bytea not null check (octet_length(mac) = 32),
    unique (namespace_uid, cluster_id)
);
create unique index tenant_live on tenant (cluster_id, namespace) where retired_time is null;

create table tenant_key (
    tenant_id uuid not null references tenant,
    key_version integer not null check (key_version >= 1),
    root_version integer not null references root_key,
    wrapped_key bytea not null,
    primary key (tenant_id, key_version)
);

-- Random keys of a tenant (fingerprints of values, audit), wrapped by its tenant key.
create table tenant_secret (
    tenant_id uuid not null references tenant,
    -- As the seal crate binds it into the wrapped key.
    purpose text not null check (purpose in ('fingerprint', 'audit')),
    secret_version integer not null check (secret_version >= 1),
    key_version integer not null,
    wrapped_key bytea not null,
    primary key (tenant_id, purpose, secret_version),
    foreign key (tenant_id, key_version) references tenant_key
);

create table token_user (
    tenant_id uuid not null references tenant,
    -- metadata.uid of the TokenUser.
    user_uid uuid not null,
    name text not null,
    email text,
    role text not null check (role in ('Member', 'Chief', 'Admin')),
    suspended boolean not null,
    -- Raised by every change of who may read or whether.
    epoch bigint not null check (epoch >= 1),
    deleted_time timestamptz,
    -- For people: not under the MAC.
    suspended_time timestamptz,
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, user_uid),
    foreign key (tenant_id, key_version) references tenant_key
);
create unique index token_user_name on token_user (tenant_id, name) where deleted_time is null;
create unique index token_user_email on token_user (tenant_id, email) where deleted_time is null;

-- Who may act as a user. Removing a row can only deny.
create table workload (
    tenant_id uuid not null,
    user_uid uuid not null,
    service_account_name text not null,
    access text not null check (access in ('Always')),
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, user_uid, service_account_name),
    foreign key (tenant_id, user_uid) references token_user,
    foreign key (tenant_id, key_version) references tenant_key
);

create table token (
    tenant_id uuid not null references tenant,
    -- metadata.uid of the StoredToken.
    token_id uuid not null,
    name text not null,
    -- The user this token serves; a new user of the same name has another UID.
    user_uid uuid not null,
    provider text not null,
    expiration_time timestamptz,
    -- True when only the rows in `consumer` may read. It stands here, under
    -- this row's MAC, so that deleting those rows cannot widen access.
    narrowed boolean not null,
    -- Every version up to this one is dead, by the spec.
    through_version integer not null check (through_version >= 0),
    -- The same, by a person through the API; the spec knows nothing of it. The stricter holds.
    api_through_version integer not null check (api_through_version >= 0),
    newest_version integer not null check (newest_version >= 0),
    deletion_policy text not null check (deletion_policy in ('Retain', 'Shred')),
    epoch bigint not null check (epoch >= 1),
    deleted_time timestamptz,
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, token_id),
    foreign key (tenant_id, user_uid) references token_user,
    foreign key (tenant_id, key_version) references tenant_key
);
create unique index token_name on token (tenant_id, name) where deleted_time is null;
create index token_by_user on token (tenant_id, user_uid) where deleted_time is null;

create table consumer (
    tenant_id uuid not null,
    token_id uuid not null,
    service_account_name text not null,
    -- Null: any purpose. One list without nulls, which is all that readers decode.
    purposes text[] check (array_ndims(purposes) = 1 and array_position(purposes, null) is null),
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, token_id, service_account_name),
    foreign key (tenant_id, token_id) references token,
    foreign key (tenant_id, key_version) references tenant_key
);

create table token_version (
    tenant_id uuid not null,
    token_id uuid not null,
    version integer not null check (version >= 1),
    state text not null check (state in ('Live', 'Dead', 'Shredded')),
    origin text not null check (origin in ('SecretKeyRef', 'Generate')),
    -- Keyed hash of the value, by which an unchanged or revoked value is known
    -- again, and the version of the tenant's fingerprint key it was made with.
    secret_version integer not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    version_time timestamptz not null,
    -- For a deleted token that is retained: when the keys are destroyed.
    shred_time timestamptz,
    -- When it ceased to be live. For people: not under the MAC.
    dead_time timestamptz,
    key_version integer not null,
    wrapped_key bytea,
    ciphertext bytea,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, token_id, version),
    foreign key (tenant_id, token_id) references token,
    foreign key (tenant_id, key_version) references tenant_key,
    check ((state = 'Shredded') = (wrapped_key is null)),
    check ((wrapped_key is null) = (ciphertext is null))
);
-- Which live versions have a value that was revoked.
create index token_version_live on token_version (tenant_id, secret_version, fingerprint)
    where state = 'Live';
create index token_version_shred on token_version (shred_time) where shred_time is not null;

-- A limit on how much of something may be used in a window of time.
create table quota (
    tenant_id uuid not null references tenant,
    -- metadata.uid of the TokenQuota.
    quota_id uuid not null,
    name text not null,
    subject_kind text not null
        check (subject_kind in ('User', 'Token', 'ServiceAccount', 'EachUser')),
    -- The UID of a user, the id of a token, the name of a service account; nothing for EachUser.
    subject text not null,
    counter text not null,
    units bigint not null check (units >= 0),
    -- In seconds, aligned to the Unix epoch; null: one window without an end.
    period_s bigint check (period_s >= 1),
    enforcement text not null check (enforcement in ('Enforce', 'Warn')),
    -- The epoch of the set since which it is as strict as it is.
    epoch bigint not null check (epoch >= 1),
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, quota_id),
    foreign key (tenant_id, key_version) references tenant_key
);

-- Which quotas a tenant has. It is made with the tenant, so that a row of `quota`
-- cannot be taken away without being missed.
create table quota_set (
    tenant_id uuid primary key references tenant,
    quota_ids uuid[] not null,
    -- Raised when a quota comes or becomes stricter.
    epoch bigint not null check (epoch >= 1),
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    foreign key (tenant_id, key_version) references tenant_key
);

-- How much was charged in a window: granted less what was returned. It belongs to
-- what is counted for whom (`usage_id` is made from subject, counter and period),
-- not to a quota: making a quota anew does not begin at zero.
-- Not authenticated: whoever writes here can only miscount, and the sum of the
-- allowances tells.
create table quota_window (
    tenant_id uuid not null references tenant,
    usage_id uuid not null,
    -- Whole periods since the Unix epoch; 0 when there is no period.
    window_no bigint not null,
    -- What is counted, for people.
    description text not null,
    charged bigint not null check (charged >= 0),
    -- The greatest limit that was enforced in this window; null: none was.
    cap bigint,
    -- Null when there is no period.
    end_time timestamptz,
    primary key (tenant_id, usage_id, window_no)
) with (fillfactor = 50);
create index quota_window_ended on quota_window (tenant_id, end_time) where end_time is not null;

-- Values that somebody revoked on purpose: refused from whatever source they come back.
-- A value is remembered by its fingerprint alone, for its tenant and for good, with
-- where it was revoked. Not remembered: values that ended in another way (deletion,
-- expiry, suspension, narrowing), and those of another tenant; nor is a value known
-- again that differs in a single byte.
-- Not authenticated: a row more can only refuse, a row less is a row destroyed.
create table revoked_value (
    tenant_id uuid not null references tenant,
    secret_version integer not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    token_id uuid not null,
    version integer not null,
    revoked_time timestamptz not null default now(),
    primary key (tenant_id, secret_version, fingerprint)
);

-- One run of one broker process.
create table incarnation (
    tenant_id uuid not null references tenant,
    incarnation_id uuid not null,
    pod_uid text not null,
    pod_name text not null,
    service_account_name text not null,
    service_account_uid text not null,
    attached_time timestamptz not null default now(),
    -- When the API server last vouched for the pod, and when it has to again;
    -- the second is under the MAC.
    reviewed_time timestamptz not null default now(),
    review_due_time timestamptz not null,
    -- When its broker last came to be reviewed and the API server could not be asked: it is
    -- not ended for that. Not authenticated: it keeps the row, and lets nobody do anything.
    unreviewed_time timestamptz,
    -- Set when this run is over: nothing is taken from it any more.
    fenced_time timestamptz,
    last_report_seq bigint not null default 0,
    last_report_digest bytea,
    last_request_no bigint not null default 0,
    -- The allowance that request was answered with; null when it was denied.
    last_allowance_id uuid,
    key_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, incarnation_id),
    foreign key (tenant_id, key_version) references tenant_key
);
-- One live incarnation per pod.
create unique index incarnation_live on incarnation (tenant_id, pod_uid) where fenced_time is null;

-- This incarnation may serve this version up to `granted` times until `expires_time`.
create table allowance (
    tenant_id uuid not null,
    allowance_id uuid not null,
    incarnation_id uuid not null,
    -- The epochs are those of the rows on which the grant was decided.
    user_uid uuid not null,
    user_epoch bigint not null,
    token_id uuid not null,
    token_epoch bigint not null,
    version integer not null,
    service_account_name text not null,
    -- The epoch of the set of quotas.
    quota_epoch bigint not null,
    granted integer not null check (granted >= 1),
    used integer not null default 0 check (used >= 0),
    returned integer not null default 0 check (returned >= 0),
    state text not null default 'Open' check (state in ('Open', 'Closed', 'Lapsed')),
    -- The holder was asked to give back what is left, because others wait for it.
    recalled boolean not null default false,
    granted_time timestamptz not null default now(),
    expires_time timestamptz not null,
    -- When the holder closed it, or when it lapsed.
    closed_time timestamptz,
    primary key (tenant_id, allowance_id),
    foreign key (tenant_id, incarnation_id) references incarnation,
    foreign key (tenant_id, token_id, version) references token_version,
    check (used + returned <= granted)
);
create index allowance_open_by_token on allowance (tenant_id, token_id) where state = 'Open';
create index allowance_closed_by_token on allowance (tenant_id, token_id, closed_time)
    where closed_time is not null;
create index allowance_open_by_incarnation on allowance (tenant_id, incarnation_id) where state = 'Open';
create index allowance_open_by_expiry on allowance (expires_time) where state = 'Open';
-- What is over is deleted in the end, and after it its incarnation.
create index allowance_ended on allowance (tenant_id, expires_time) where state <> 'Open';
create index allowance_by_incarnation on allowance (tenant_id, incarnation_id);

-- The windows that an allowance was charged to.
create table allowance_charge (
    tenant_id uuid not null,
    allowance_id uuid not null,
    usage_id uuid not null,
    window_no bigint not null,
    incarnation_id uuid not null,
    -- As the allowance is, so that those who share a window are found quickly.
    open boolean not null default true,
    primary key (tenant_id, allowance_id, usage_id),
    foreign key (tenant_id, allowance_id) references allowance,
    foreign key (tenant_id, usage_id, window_no) references quota_window
);
-- For those who share a window, and for the end of a window that nothing refers to.
create index allowance_charge_by_window
    on allowance_charge (tenant_id, usage_id, window_no, open, incarnation_id);

-- Service accounts of which a broker never accounted for accesses that quotas count:
-- the most that the next counted allowance is good for. It starts at 1 and doubles
-- with each, so that brokers that die again and again take little of a quota with
-- them. No row, no bound. Not authenticated: whoever writes here can make allowances
-- small, and no larger than they would be.
create table slow_start (
    tenant_id uuid not null references tenant,
    service_account_name text not null,
    units integer not null check (units >= 1),
    primary key (tenant_id, service_account_name)
);

-- Opens an allowance and charges it to all of its windows, or to none: then
-- `granted` is 0. Windows are locked in the order of their keys, so that two grants
-- never wait for each other in a circle.
create function open_allowance(
    p_tenant uuid, p_allowance uuid, p_incarnation uuid,
    p_user uuid, p_user_epoch bigint, p_token uuid, p_token_epoch bigint, p_version integer,
    p_service_account text, p_quota_epoch bigint,
    p_want integer, p_lease interval, p_not_after timestamptz,
    -- One entry for each usage that is counted; a limit is null when it only warns.
    p_usages uuid[], p_descriptions text[], p_periods bigint[], p_limits bigint[],
    out granted integer, out expires_in_ms bigint,
    -- Used up, and until when: null when they do not begin anew.
    out exhausted uuid[], out retry_in_ms bigint
) language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_seconds bigint := floor(extract(epoch from v_now));
    v_expires timestamptz := least(v_now + p_lease, p_not_after);
    v_exhausted_until timestamptz := v_now;
    v_rest bigint;
    v_sharers bigint[];
    v_is_limited boolean := false;
    v_slow integer;
    v_window record;
    -- What is locked and checked, and so what is charged: by then there may be newer windows.
    v_usages uuid[] := '{}';
    v_window_nos bigint[] := '{}';
    v_limits bigint[] := '{}';
begin
    granted := p_want;
    exhausted := '{}';
    insert into quota_window (tenant_id, usage_id, window_no, description, charged, end_time)
    select p_tenant, u.usage_id, coalesce(v_seconds / u.period_s, 0), u.description, 0,
           to_timestamp((v_seconds / u.period_s + 1) * u.period_s)
    from unnest(p_usages, p_descriptions, p_periods) as u (usage_id, description, period_s)
    order by u.usage_id
    on conflict do nothing;
    -- Counted before the windows are locked, which everybody waits for: among many brokers
    -- it takes long. Who comes and goes meanwhile only makes a share smaller or larger.
    select array_agg(case when u.units is not null then (
               select count(distinct c.incarnation_id) from allowance_charge c
               where c.tenant_id = p_tenant and c.usage_id = u.usage_id and c.open
                 and c.incarnation_id <> p_incarnation
                 and c.window_no = (
                     select max(w.window_no) from quota_window w
                     where w.tenant_id = p_tenant and w.usage_id = u.usage_id)
           ) end + 1 order by u.place) into v_sharers
    from unnest(p_usages, p_limits) with ordinality as u (usage_id, units, place);
    for v_window in
        select w.usage_id, w.window_no, w.charged, u.units, v_sharers[u.place] as sharers,
               coalesce(to_timestamp((w.window_no + 1) * u.period_s), 'infinity') as end_time
        from unnest(p_usages, p_periods, p_limits)
             with ordinality as u (usage_id, period_s, units, place)
        join lateral (
            select usage_id, window_no, charged from quota_window
            where tenant_id = p_tenant and usage_id = u.usage_id
              -- A clock that was set back does not open an old window again.
            order by window_no desc limit 1
        ) as newest on true
        join quota_window w on w.tenant_id = p_tenant and w.usage_id = newest.usage_id
                           and w.window_no = newest.window_no
        order by w.usage_id
        for no key update of w
    loop
        v_expires := least(v_expires, v_window.end_time);
        v_usages := array_append(v_usages, v_window.usage_id);
        v_window_nos := array_append(v_window_nos, v_window.window_no);
        v_limits := array_append(v_limits, v_window.units);
        continue when v_window.units is null;
        v_rest := v_window.units - v_window.charged;
        if v_rest <= 0 then
            exhausted := exhausted || v_window.usage_id;
            v_exhausted_until := greatest(v_exhausted_until, v_window.end_time);
        else
            -- A third of it is left for those who come later; the rest is shared alike
            -- among those who hold some.
            granted := least(granted, greatest(1, 2 * v_rest / (3 * v_window.sharers)));
            v_is_limited := true;
        end if;
    end loop;
    if exhausted <> '{}' then
        granted := 0;
        if v_exhausted_until < 'infinity' then
            retry_in_ms := ceil(extract(epoch from v_exhausted_until - clock_timestamp()) * 1000);
        end if;
        return;
    end if;
    -- A run that holds none of it yet: how much it uses is not known. A share of what is
    -- left would be far too large for the first to come, and others would wait for it.
    if v_is_limited and not exists (
        select from allowance_charge c
        where c.tenant_id = p_tenant and c.incarnation_id = p_incarnation
          and (c.usage_id, c.window_no) in (
              select usage_id, window_no from unnest(v_usages, v_window_nos) as u (usage_id, window_no))
          and c.open
    ) then
        granted := least(granted, 64);
    end if;
    if v_usages <> '{}' then
        update slow_start set units = 2 * units
        where tenant_id = p_tenant and service_account_name = p_service_account
        returning units / 2 into v_slow;
        granted := least(granted, v_slow);
        -- More than any allowance is good for.
        delete from slow_start
        where tenant_id = p_tenant and service_account_name = p_service_account and units > 5000;
    end if;

    insert into allowance (tenant_id, allowance_id, incarnation_id, user_uid, user_epoch, token_id,
                           token_epoch, version, service_account_name, quota_epoch, granted,
                           granted_time, expires_time)
    values (p_tenant, p_allowance, p_incarnation, p_user, p_user_epoch, p_token,
            p_token_epoch, p_version, p_service_account, p_quota_epoch, granted,
            v_now, v_expires);
    with charged as (
        update quota_window w
        set charged = w.charged + granted, cap = greatest(w.cap, u.units)
        from unnest(v_usages, v_window_nos, v_limits) as u (usage_id, window_no, units)
        where w.tenant_id = p_tenant and w.usage_id = u.usage_id
          and w.window_no = u.window_no
        returning w.usage_id, w.window_no
    )
    insert into allowance_charge (tenant_id, allowance_id, usage_id, window_no, incarnation_id)
    select p_tenant, p_allowance, usage_id, window_no, p_incarnation from charged;
    -- It may have ended while a window was waited for.
    expires_in_ms := greatest(0, floor(extract(epoch from v_expires - clock_timestamp()) * 1000));
end
$$;

-- Gives units of closed allowances back to the windows that were charged.
create function refund(p_tenant uuid, p_allowances uuid[], p_units integer[])
returns void language plpgsql as $$
begin
    perform from quota_window w
    where w.tenant_id = p_tenant
      and (w.usage_id, w.window_no) in (
          select c.usage_id, c.window_no from allowance_charge c
          where c.tenant_id = p_tenant and c.allowance_id = any(p_allowances))
    order by w.usage_id, w.window_no
    for no key update;
    update quota_window w set charged = w.charged - s.units
    from (
        select c.usage_id, c.window_no, sum(r.units) as units
        from unnest(p_allowances, p_units) as r (allowance_id, units)
        join allowance_charge c on c.tenant_id = p_tenant and c.allowance_id = r.allowance_id
        group by c.usage_id, c.window_no
    ) as s
    where w.tenant_id = p_tenant and w.usage_id = s.usage_id and w.window_no = s.window_no;
    update allowance_charge set open = false
    where tenant_id = p_tenant and allowance_id = any(p_allowances);
end
$$;

-- What was answered to a consumption or release of a workload's own units, so that
-- one that is sent again is not counted again. Trimmed after 24 hours.
create table idempotency_key (
    tenant_id uuid not null references tenant,
    user_uid uuid not null,
    service_account_name text not null,
    counter text not null,
    idempotency_key text not null,
    operation text not null check (operation in ('Consume', 'Release')),
    amount bigint not null check (amount >= 1),
    counted_time timestamptz not null default now(),
    -- As brokers read it. Empty, like the MAC, only inside the transaction that makes
    -- the row: those who bring the same key wait for it.
    answer bytea not null default '',
    key_version integer not null,
    mac bytea not null default '',
    primary key (tenant_id, user_uid, service_account_name, counter, idempotency_key),
    foreign key (tenant_id, key_version) references tenant_key
);
create index idempotency_key_by_time on idempotency_key (tenant_id, counted_time);

-- Takes units of all of these usages, or of none. Windows are locked in the order of
-- their keys, so that two consumptions never wait for each other in a circle. Nothing
-- is to be committed unless `outcome` is Counted. What is decided behind those locks is
-- decided by the quotas as they are then.
create function consume_units(
    p_tenant uuid, p_amount bigint,
    -- As of open_allowance.
    p_usages uuid[], p_descriptions text[], p_periods bigint[], p_limits bigint[],
    -- The xmin of the set of quotas, read together with them: whoever changes any of them
    -- writes its row anew.
    p_quota_set text,
    -- Counted, Exhausted, or Moved: a window ended while another was waited for, or a
    -- quota was changed. Then begin again without these locks: newer windows come in no
    -- fixed order after them.
    out outcome text,
    -- Those with less left than was asked for, and when there is more: null when
    -- that is never.
    out exhausted uuid[], out retry_in_ms bigint
) language plpgsql as $$
declare
    v_seconds bigint := floor(extract(epoch from clock_timestamp()));
    v_first_end timestamptz := 'infinity';
    v_until timestamptz := '-infinity';
    v_window record;
    -- What is locked and checked, and so what is counted.
    v_usages uuid[] := '{}';
    v_window_nos bigint[] := '{}';
    v_limits bigint[] := '{}';
begin
    exhausted := '{}';
    insert into quota_window (tenant_id, usage_id, window_no, description, charged, end_time)
    select p_tenant, u.usage_id, coalesce(v_seconds / u.period_s, 0), u.description, 0,
           to_timestamp((v_seconds / u.period_s + 1) * u.period_s)
    from unnest(p_usages, p_descriptions, p_periods) as u (usage_id, description, period_s)
    order by u.usage_id
    on conflict do nothing;
    for v_window in
        select w.usage_id, w.window_no, w.charged, u.units,
               coalesce(to_timestamp((w.window_no + 1) * u.period_s), 'infinity') as end_time
        from unnest(p_usages, p_periods, p_limits) as u (usage_id, period_s, units)
        join lateral (
            select usage_id, window_no from quota_window
            where tenant_id = p_tenant and usage_id = u.usage_id
            -- A clock that was set back does not open an old window again.
            order by window_no desc limit 1
        ) as newest on true
        join quota_window w on w.tenant_id = p_tenant and w.usage_id = newest.usage_id
                           and w.window_no = newest.window_no
        order by w.usage_id
        for no key update of w
    loop
        v_first_end := least(v_first_end, v_window.end_time);
        v_usages := array_append(v_usages, v_window.usage_id);
        v_window_nos := array_append(v_window_nos, v_window.window_no);
        v_limits := array_append(v_limits, v_window.units);
        if v_window.units - p_amount < v_window.charged then
            exhausted := array_append(exhausted, v_window.usage_id);
            v_until := greatest(v_until, case when v_window.units < p_amount then 'infinity'
                                              else v_window.end_time end);
        end if;
    end loop;
    if v_first_end <= clock_timestamp() or not exists (
        select from quota_set where tenant_id = p_tenant and xmin::text = p_quota_set)
    then
        outcome := 'Moved';
    elsif exhausted <> '{}' then
        outcome := 'Exhausted';
        if v_until < 'infinity' then
            retry_in_ms := ceil(extract(epoch from v_until - clock_timestamp()) * 1000);
        end if;
    else
        outcome := 'Counted';
        update quota_window w
        -- What only warns has no bound but that of the type.
        set charged = least(w.charged, 9223372036854775807 - p_amount) + p_amount,
            cap = greatest(w.cap, u.units)
        from unnest(v_usages, v_window_nos, v_limits) as u (usage_id, window_no, units)
        where w.tenant_id = p_tenant and w.usage_id = u.usage_id and w.window_no = u.window_no;
    end if;
end
$$;

-- Gives units back to the present window of each of these usages: no more than are used
-- there. What was used in a window that has ended is not given back to another.
create function release_units(
    p_tenant uuid, p_amount bigint, p_usages uuid[], p_periods bigint[],
    -- What was given back to which usage.
    out usage_ids uuid[], out released bigint[]
) language plpgsql as $$
declare
    v_seconds bigint := floor(extract(epoch from clock_timestamp()));
    v_window record;
begin
    usage_ids := '{}';
    released := '{}';
    for v_window in
        select w.usage_id, w.window_no, least(w.charged, p_amount) as units
        from unnest(p_usages, p_periods) as u (usage_id, period_s)
        join lateral (
            select usage_id, window_no from quota_window
            where tenant_id = p_tenant and usage_id = u.usage_id
              and window_no >= coalesce(v_seconds / u.period_s, 0)
            order by window_no desc limit 1
        ) as newest on true
        join quota_window w on w.tenant_id = p_tenant and w.usage_id = newest.usage_id
                           and w.window_no = newest.window_no
        order by w.usage_id
        for no key update of w
    loop
        usage_ids := array_append(usage_ids, v_window.usage_id);
        released := array_append(released, v_window.units);
        update quota_window w set charged = w.charged - v_window.units
        where w.tenant_id = p_tenant and w.usage_id = v_window.usage_id
          and w.window_no = v_window.window_no;
    end loop;
end
$$;

-- Whether what an open allowance was granted on is still so (Good), or has
-- changed in some way, or is gone.
create view allowance_standing as
select a.tenant_id, a.allowance_id, a.incarnation_id, a.token_id,
       case
           when n.retired_time is not null
               or u.deleted_time is not null or u.suspended
               or t.deleted_time is not null or t.user_uid <> a.user_uid
               or a.version <= greatest(t.through_version, t.api_through_version) or v.state <> 'Live' then 'Dead'
           when u.epoch <> a.user_epoch or t.epoch <> a.token_epoch
               or a.version <> t.newest_version
               or q.epoch <> a.quota_epoch or a.recalled then 'Changed'
           else 'Good'
       end as standing
from allowance a
join tenant n on n.tenant_id = a.tenant_id
join quota_set q on q.tenant_id = a.tenant_id
join token_user u on u.tenant_id = a.tenant_id and u.user_uid = a.user_uid
join token t on t.tenant_id = a.tenant_id and t.token_id = a.token_id
join token_version v
    on v.tenant_id = a.tenant_id and v.token_id = a.token_id and v.version = a.version
where a.state = 'Open';

-- The audit: what was served (fact: who, which version, when recorded, how often; claim:
-- app_name, purpose, the broker's times), what a broker never accounted for
-- (Unaccounted), how much of that it told of later (Accounted), what was refused
-- (Denied), and what a person did (Queried, Revoked).
--
-- Records form chains: numbers without a gap, and a MAC over all columns and the MAC
-- of the record before, under the tenant's audit key of version `secret_version`. A
-- chain is an incarnation, or the tenant's own id for what people did. Rows are only
-- ever added, and go a day at a time.
create table access_record (
    tenant_id uuid not null,
    chain_id uuid not null,
    record_no bigint not null check (record_no >= 1),
    -- The database's clock, and never before the record before.
    recorded_time timestamptz not null,
    outcome text not null
        check (outcome in ('Served', 'Unaccounted', 'Accounted', 'Denied', 'Queried', 'Revoked')),
    -- With what a broker reported.
    report_seq bigint,
    allowance_id uuid,
    user_uid uuid,
    token_id uuid,
    version integer,
    service_account_name text not null,
    app_name text not null,
    purpose text not null,
    count integer not null check (count >= 1),
    first_time timestamptz not null,
    last_time timestamptz not null,
    -- With Denied: which decision, and what was asked for.
    decision_id text,
    code text,
    reason text,
    user_name text,
    token_name text,
    -- With Queried and Revoked: who the person says to be.
    person text,
    secret_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    -- With the time because Postgres wants it in every key of a partitioned table; that
    -- a number does not come twice is seen to by append_records.
    primary key (tenant_id, chain_id, record_no, recorded_time)
) partition by range (recorded_time);
create index access_record_by_token on access_record (tenant_id, token_id, recorded_time);
create index access_record_by_token_name on access_record (tenant_id, token_name, recorded_time)
    where token_name is not null;
-- For people: what happened when, and one refusal.
create index access_record_of_tenant on access_record (tenant_id, recorded_time, chain_id, record_no);
create index access_record_by_decision on access_record (tenant_id, decision_id)
    where decision_id is not null;
-- What was recorded lately, of all tokens: records lie nearly in the order of their times.
create index access_record_by_time on access_record using brin (recorded_time)
    with (pages_per_range = 16, autosummarize = on);

-- Where each chain ends, and where it begins once older records were dropped.
-- Not authenticated: the last record and the checkpoints tell of a changed one.
-- The chain of a run that is gone goes with its last record.
create table audit_chain (
    tenant_id uuid not null references tenant,
    chain_id uuid not null,
    record_no bigint not null,
    recorded_time timestamptz not null,
    mac bytea not null check (octet_length(mac) = 32),
    -- The last record that was dropped; null: none was.
    boundary_no bigint,
    boundary_mac bytea check (octet_length(boundary_mac) = 32),
    primary key (tenant_id, chain_id),
    check ((boundary_no is null) = (boundary_mac is null))
) with (fillfactor = 50);

-- Adds records to the end of a chain, all of one chain and in order, and moves its head.
create function append_records(p_records access_record[]) returns void
language plpgsql as $$
begin
    insert into access_record select * from unnest(p_records);
    insert into audit_chain as c (tenant_id, chain_id, record_no, recorded_time, mac)
    select tenant_id, chain_id, record_no, recorded_time, mac
    from unnest(p_records) order by record_no desc limit 1
    on conflict (tenant_id, chain_id) do update
    set record_no = excluded.record_no, recorded_time = excluded.recorded_time,
        mac = excluded.mac
    where c.record_no + cardinality(p_records) = excluded.record_no;
    if not found then
        raise exception 'records do not follow the head of their chain';
    end if;
end
$$;

-- An allowance as a report needs it.
create type held_allowance as (
    allowance_id uuid, granted integer, used integer, returned integer, state text,
    user_uid uuid, token_id uuid, version integer, service_account_name text,
    granted_time timestamptz, expires_time timestamptz
);

-- Locks an incarnation for a report, and reads what that needs: its row, those of the
-- allowances that are its own, and the head of its chain.
create function open_report(p_tenant uuid, p_incarnation uuid, p_allowances uuid[])
returns table (
    pod_uid text, pod_name text, service_account_name text, service_account_uid text,
    review_due_time timestamptz, key_version integer, mac bytea, fenced boolean,
    last_report_seq bigint, last_report_digest bytea,
    last_request_no bigint,
    held held_allowance[], head_no bigint, head_time timestamptz, head_mac bytea,
    began timestamptz, read_at timestamptz
) language plpgsql as $$
begin
    perform from incarnation i
    where i.tenant_id = p_tenant and i.incarnation_id = p_incarnation
    for no key update;
    -- A statement of its own sees what was committed while the first one waited.
    return query
    select i.pod_uid, i.pod_name, i.service_account_name, i.service_account_uid,
           i.review_due_time, i.key_version, i.mac, i.fenced_time is not null,
           i.last_report_seq, i.last_report_digest, i.last_request_no,
           array(
               select row(a.allowance_id, a.granted, a.used, a.returned, a.state, a.user_uid,
                          a.token_id, a.version, a.service_account_name, a.granted_time,
                          a.expires_time)::held_allowance
               from allowance a
               where a.tenant_id = p_tenant and a.incarnation_id = p_incarnation
                 and a.allowance_id = any(p_allowances)),
           h.record_no, h.recorded_time, h.mac, now(), clock_timestamp()
    from incarnation i
    left join audit_chain h on h.tenant_id = i.tenant_id and h.chain_id = i.incarnation_id
    where i.tenant_id = p_tenant and i.incarnation_id = p_incarnation;
end
$$;

-- Writes all that a report changes, behind open_report in its transaction.
create function store_report(
    p_tenant uuid, p_incarnation uuid, p_seq bigint, p_digest bytea,
    p_allowances uuid[], p_used integer[], p_returned integer[], p_states text[],
    p_refunded uuid[], p_units integer[], p_records access_record[]
) returns void language plpgsql as $$
begin
    update allowance a set used = n.used, returned = n.returned, state = n.state,
        closed_time = case when n.state = a.state then a.closed_time else clock_timestamp() end
    from unnest(p_allowances, p_used, p_returned, p_states)
         as n (allowance_id, used, returned, state)
    where a.tenant_id = p_tenant and a.allowance_id = n.allowance_id;
    if cardinality(p_refunded) > 0 then
        perform refund(p_tenant, p_refunded, p_units);
    end if;
    if cardinality(p_records) > 0 then
        perform append_records(p_records);
    end if;
    update incarnation set last_report_seq = p_seq, last_report_digest = p_digest
    where tenant_id = p_tenant and incarnation_id = p_incarnation;
end
$$;

-- Makes the partitions of access_record for today and the 7 days after it, in UTC.
-- There is no other partition: without one for its day a record is refused.
create function create_audit_partitions() returns void
language plpgsql
-- For the vault, which may not make tables: as their owner, and with no name looked up but
-- where it is said to be.
security definer set search_path = pg_catalog, pg_temp
-- The bounds are written and read back as text.
set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    v_today date := (clock_timestamp() at time zone 'UTC')::date;
    v_day date;
    v_name text;
begin
    -- Most of the time there is nothing to do.
    if not exists (
        select from generate_series(0, 7) as n
        where to_regclass('public.access_record_' || to_char(v_today + n, 'YYYYMMDD')) is null
    ) then
        return;
    end if;
    -- One at a time. Records are written meanwhile: a table that is attached, other than
    -- one that is made as a partition, keeps nobody waiting.
    lock table public.access_record in share update exclusive mode;
    for v_day in select v_today + n from generate_series(0, 7) as n loop
        v_name := 'access_record_' || to_char(v_day, 'YYYYMMDD');
        if to_regclass('public.' || v_name) is null then
            execute format('create table public.%I (like public.access_record including all)',
                           v_name);
            execute format(
                'alter table public.access_record attach partition public.%I
                 for values from (%L) to (%L)',
                v_name, v_day::timestamp at time zone 'UTC',
                (v_day + 1)::timestamp at time zone 'UTC');
        end if;
    end loop;
end
$$;
revoke execute on function create_audit_partitions from public;
select create_audit_partitions();

-- A checkpoint binds all chains of a tenant as they stood, and the checkpoint before: a
-- MAC over all columns and its MAC. The newest ones are bound outside the database.
create table checkpoint (
    tenant_id uuid not null references tenant,
    -- Without a gap from 1.
    checkpoint_no bigint not null check (checkpoint_no >= 1),
    checkpoint_time timestamptz not null,
    -- Boundary: what is dropped, and what is not, meets there.
    kind text not null check (kind in ('Regular', 'Boundary')),
    -- With Boundary: it covers what was recorded up to the end of that day, in UTC.
    through_day date,
    -- SHA-256 of its rows in checkpoint_head.
    heads_digest bytea not null check (octet_length(heads_digest) = 32),
    secret_version integer not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, checkpoint_no),
    check ((kind = 'Boundary') = (through_day is not null))
);
create index checkpoint_by_time on checkpoint (checkpoint_time);
-- For the day that is to be dropped.
create index checkpoint_by_day on checkpoint (through_day, tenant_id, checkpoint_no)
    where kind = 'Boundary';
-- For the newest one of a tenant.
create index checkpoint_of_tenant on checkpoint (tenant_id, through_day, checkpoint_no)
    where kind = 'Boundary';

-- The heads of chains at a checkpoint: of those that moved since the one before, or with
-- Boundary the last record of each chain that it covers.
-- Those of Regular are deleted once the records that they name are.
create table checkpoint_head (
    tenant_id uuid not null,
    checkpoint_no bigint not null,
    chain_id uuid not null,
    record_no bigint not null,
    mac bytea not null check (octet_length(mac) = 32),
    primary key (tenant_id, checkpoint_no, chain_id),
    foreign key (tenant_id, checkpoint_no) references checkpoint
);
create index checkpoint_head_by_chain on checkpoint_head (tenant_id, chain_id, record_no);

-- Denials are counted, not listed: a flood of them cannot fill the disk.
create table denial (
    tenant_id uuid not null references tenant,
    service_account_name text not null,
    reason text not null,
    hour timestamptz not null,
    count bigint not null check (count >= 1),
    last_time timestamptz not null,
    primary key (tenant_id, service_account_name, reason, hour)
);
-- Trimmed after 30 days.
create index denial_by_hour on denial (tenant_id, hour);

-- Counts one more denial. Nothing of the request is stored but who made it.
create function count_denial(p_tenant uuid, p_service_account text, p_reason text)
returns void language sql as $$
    insert into denial (tenant_id, service_account_name, reason, hour, count, last_time)
    values (p_tenant, p_service_account, p_reason, date_trunc('hour', now(), 'UTC'), 1, now())
    on conflict (tenant_id, service_account_name, reason, hour)
    do update set count = denial.count + 1, last_time = excluded.last_time
$$;

-- Locks a run until the transaction ends, to answer its next request. False when
-- it is not as it was read and verified without the lock: then nothing may be
-- written, and the caller reads again.
create function lock_run(
    p_tenant uuid, p_incarnation uuid, p_mac bytea, p_vouched_until timestamptz,
    p_request_no bigint
) returns boolean language plpgsql as $$
declare
    v_same boolean;
begin
    select mac = p_mac and fenced_time is null and last_request_no = p_request_no - 1 into v_same
    from incarnation
    where tenant_id = p_tenant and incarnation_id = p_incarnation
    for no key update;
    -- By the clock after the wait for the lock.
    return coalesce(v_same, false) and clock_timestamp() <= p_vouched_until;
end
$$;

-- Answers a request with a denial. False when the run is not as it was read.
create function deny_request(
    p_tenant uuid, p_incarnation uuid, p_mac bytea, p_vouched_until timestamptz,
    p_request_no bigint, p_service_account text, p_reason text
) returns boolean language plpgsql as $$
begin
    if not lock_run(p_tenant, p_incarnation, p_mac, p_vouched_until, p_request_no) then
        return false;
    end if;
    perform count_denial(p_tenant, p_service_account, p_reason);
    update incarnation set last_request_no = p_request_no, last_allowance_id = null
    where tenant_id = p_tenant and incarnation_id = p_incarnation;
    return true;
end
$$;

-- Answers a request of somebody who is entitled: with an allowance or, when quotas
-- are used up, with a denial.
create function grant_request(
    p_tenant uuid, p_incarnation uuid, p_mac bytea, p_vouched_until timestamptz,
    p_request_no bigint, p_most_open bigint,
    -- What it is counted as that quotas are used up; null: something may come back,
    -- and the request is not answered.
    p_exhausted text,
    -- As open_allowance has them.
    p_allowance uuid,
    p_user uuid, p_user_epoch bigint, p_token uuid, p_token_epoch bigint, p_version integer,
    p_service_account text, p_quota_epoch bigint,
    p_want integer, p_lease interval, p_not_after timestamptz,
    p_usages uuid[], p_descriptions text[], p_periods bigint[], p_limits bigint[],
    -- The run is not as it was read, or has too many open: nothing was written.
    out moved boolean, out too_many_open boolean,
    out granted integer, out expires_in_ms bigint,
    out exhausted uuid[], out retry_in_ms bigint
) language plpgsql as $$
begin
    moved := not lock_run(p_tenant, p_incarnation, p_mac, p_vouched_until, p_request_no);
    too_many_open := not moved and p_most_open <= (
        select count(*) from (
            select from allowance
            where tenant_id = p_tenant and incarnation_id = p_incarnation and state = 'Open'
            limit p_most_open) as open);
    if moved or too_many_open then
        return;
    end if;
    select o.granted, o.expires_in_ms, o.exhausted, o.retry_in_ms
    into granted, expires_in_ms, exhausted, retry_in_ms
    from open_allowance(p_tenant, p_allowance, p_incarnation, p_user, p_user_epoch, p_token,
                        p_token_epoch, p_version, p_service_account, p_quota_epoch, p_want,
                        p_lease, p_not_after, p_usages, p_descriptions, p_periods,
                        p_limits) as o;
    if granted = 0 then
        if p_exhausted is null then
            return;
        end if;
        perform count_denial(p_tenant, p_service_account, p_exhausted);
    end if;
    update incarnation
    set last_request_no = p_request_no,
        last_allowance_id = case when granted > 0 then p_allowance end
    where tenant_id = p_tenant and incarnation_id = p_incarnation;
end
$$;

-- How many refusals the brokers of a pod told of one by one (Denied in access_record),
-- in the hour that began with the first. Not authenticated: it only bounds a flood.
create table denial_told (
    tenant_id uuid not null references tenant,
    pod_uid text not null,
    since_time timestamptz not null,
    count integer not null check (count >= 1),
    primary key (tenant_id, pod_uid)
);
create index denial_told_by_time on denial_told (tenant_id, since_time);

-- A row whose MAC does not fit: one entry per row and content found.
create table integrity_failure (
    tenant_id uuid not null,
    table_name text not null,
    row_key text not null,
    found_digest bytea not null,
    found_time timestamptz not null default now(),
    primary key (tenant_id, table_name, row_key, found_digest)
);

-- Changes that holders of allowances must hear of. The number comes from the
-- locked head row in the same transaction: a sequence would commit out of order.
create table change_head (
    shard smallint primary key check (shard between 0 and 15),
    seq bigint not null
);
insert into change_head (shard, seq) select s, 0 from generate_series(0, 15) as s;

create table change (
    shard smallint not null,
    seq bigint not null,
    tenant_id uuid not null,
    -- Recall: stop at once. Supersede: a newer version exists. Widen: forget denials.
    -- Return: give back what is left.
    kind text not null check (kind in ('Recall', 'Supersede', 'Widen', 'Return')),
    -- With Recall and Supersede.
    token_id uuid,
    -- With Return: what is used up.
    usage_id uuid,
    changed_time timestamptz not null default now(),
    primary key (shard, seq)
);
create index change_by_time on change (changed_time);
