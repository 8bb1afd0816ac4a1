-- Queue: who waits where today, and in which order.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- A site's line for one practitioner, or for the pool (`line_id` is the site's), on one local day.
-- The row lock, held until COMMIT, makes ticket numbers gap-free and versions ordered.
create table queue (
    clinic_id uuid not null default current_clinic(),
    queue_id uuid not null,
    site_id uuid not null,
    line_id uuid not null,
    on_day date not null,
    line_name text not null,
    last_ticket bigint not null default 0,
    version bigint not null default 0,
    primary key (clinic_id, queue_id),
    unique (clinic_id, site_id, line_id, on_day),
    foreign key (clinic_id, site_id) references site
);
create index queue_day on queue (clinic_id, on_day, site_id);

create table queue_entry (
    clinic_id uuid not null default current_clinic(),
    entry_id uuid not null,
    queue_id uuid not null,
    ticket bigint not null,
    appointment_id uuid not null,
    patient_id uuid not null,
    status text not null default 'waiting' check (status in ('waiting', 'called', 'in_progress', 'completed')),
    priority bigint not null default 0,
    due_at timestamptz not null,
    entered_at timestamptz not null,
    called_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    room text,
    primary key (clinic_id, entry_id),
    unique (clinic_id, queue_id, ticket),
    unique (clinic_id, appointment_id),
    foreign key (clinic_id, queue_id) references queue,
    foreign key (clinic_id, appointment_id) references booking,
    foreign key (clinic_id, patient_id) references patient
);
-- The order: priority, then when one was due (greatest of arrival and booked start), then the ticket.
-- `(- priority)` so that one row comparison walks one index.
create index queue_order on queue_entry (clinic_id, queue_id, (- priority), due_at, ticket)
where status = 'waiting';
create index queue_present on queue_entry (clinic_id, queue_id) where status in ('called', 'in_progress');
create index queue_entry_patient on queue_entry (clinic_id, patient_id);

call wall_in('queue', 'select, insert, update', 'select, insert', 'clinic');
call wall_in('queue_entry', 'select, insert, update', 'select, insert', 'own');
grant update (last_ticket, version) on queue to cliniq_person;

-- Whether the seat of this transaction is in a clinic. Functions that look past walls ask it: their argument
-- is only as true as whoever calls them.
create function is_seated_in(clinic uuid) returns boolean language sql stable
return coalesce(
    clinic = nullif(current_setting('cliniq.clinic_id', true), '')::uuid
    or clinic = any (nullif(current_setting('cliniq.clinics', true), '')::uuid[]), false
);

-- How many wait ahead of an entry. Numbers only, counted outside the patient's wall: within it everybody
-- would be first.
create function count_ahead(mine queue_entry) returns bigint
language sql stable security definer set search_path = public, pg_temp as $$
    select count(*) from queue_entry as ahead
    where ahead.clinic_id = mine.clinic_id and ahead.queue_id = mine.queue_id and ahead.status = 'waiting'
        and (- ahead.priority, ahead.due_at, ahead.ticket) < (- mine.priority, mine.due_at, mine.ticket)
        and is_seated_in(mine.clinic_id)
$$;

-- A queue as a board shows it: tickets, never people, in order.
create function show_board(shown queue)
returns table (ticket bigint, status text, room text, place bigint)
language sql stable security definer set search_path = public, pg_temp as $$
    select e.ticket, e.status, e.room, row_number() over (
        partition by e.status
        order by case e.status when 'waiting' then - e.priority end,
            case e.status when 'waiting' then e.due_at when 'called' then e.called_at else e.started_at end, e.ticket
    )
    from queue_entry as e
    where e.clinic_id = shown.clinic_id and e.queue_id = shown.queue_id
        and e.status in ('waiting', 'called', 'in_progress') and is_seated_in(shown.clinic_id)
$$;
grant execute on function count_ahead, show_board to cliniq_clinic, cliniq_person;
