-- The town of `town.py`: written as a superuser, without checking foreign keys. Words in braces are filled in.
set session_replication_role = replica;
set timezone = 'UTC';

create function pg_temp.id(kind int, number bigint) returns uuid stable language sql
return (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-0000' || number)::uuid;

create temp table doctor as
select d, {FIRST} + d % {sites} as s from generate_series({FIRST}::bigint, {FIRST} + {doctors} - 1) as d;

create temp table visit as
select i, d, s, {starts_at} as starts_at
from (select i, {doctor_of_i} as d from generate_series({FIRST}::bigint, {FIRST} + {visits} - 1) as i) as v
join doctor using (d);

create temp table human as
select pg_temp.id({PERSON}, i) as person_id, pg_temp.id({SESSION}, i) as session_id, 'i' || i as name from visit
union all
select pg_temp.id({STAFF}, c), pg_temp.id({STAFF_SESSION}, c), 'c' || c
from generate_series({FIRST}::bigint, {FIRST} + greatest({staff}, {doctors}) - 1) as c;

insert into person (person_id, given_name, family_name) select person_id, 'Ann', name from human;
insert into account (person_id, email, password_hash) select person_id, name || '@example.org', '' from human;
insert into session (person_id, session_id, created_at, refreshed_at, expires_at)
select person_id, session_id, now(), now(), now() + interval '1 day' from human;

insert into clinic (clinic_id, name, app_name, zone) values ('{clinic}', 'Bench', 'bench', 'UTC');
insert into site (clinic_id, site_id, name, zone, address)
select distinct '{clinic}'::uuid, pg_temp.id({SITE}, s), 'Site ' || s, 'UTC', '' from doctor;
insert into check_in_point (clinic_id, check_in_point_id, site_id, name)
select distinct '{clinic}'::uuid, pg_temp.id({POINT}, s), pg_temp.id({SITE}, s), 'Door' from doctor;

insert into membership (clinic_id, person_id, role)
select '{clinic}', pg_temp.id({STAFF}, c), 'DOCTOR'
from generate_series({FIRST}::bigint, {FIRST} + greatest({staff}, {doctors}) - 1) as c;
insert into practitioner (clinic_id, practitioner_id, person_id, name)
select '{clinic}', pg_temp.id({PRACTITIONER}, d), pg_temp.id({STAFF}, d), 'Dr. ' || d from doctor;
insert into queue (clinic_id, queue_id, site_id, line_id, on_day, line_name)
select '{clinic}', pg_temp.id({QUEUE}, d), pg_temp.id({SITE}, s), pg_temp.id({PRACTITIONER}, d),
    (select min(starts_at at time zone 'UTC')::date from visit), 'Dr. ' || d
from doctor;

insert into patient (clinic_id, patient_id, person_id, given_name, family_name, mrn)
select '{clinic}', pg_temp.id({PATIENT}, i), pg_temp.id({PERSON}, i), 'Ann', i, i from visit;
insert into booking (clinic_id, booking_id, patient_id, starts_at)
select '{clinic}', pg_temp.id({APPOINTMENT}, i), pg_temp.id({PATIENT}, i), starts_at from visit;
insert into appointment (clinic_id, appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at,
    ends_at, status)
select '{clinic}', pg_temp.id({APPOINTMENT}, i), pg_temp.id({PATIENT}, i), pg_temp.id({PRACTITIONER}, d),
    pg_temp.id({SITE}, s), 'consultation', starts_at, starts_at + interval '15 minutes',
    case when {waiting} then 'checked_in' else 'booked' end
from visit;
insert into queue_entry (clinic_id, entry_id, queue_id, ticket, appointment_id, patient_id, due_at, entered_at)
select '{clinic}', pg_temp.id({ENTRY}, i), pg_temp.id({QUEUE}, d), row_number() over (partition by d order by i),
    pg_temp.id({APPOINTMENT}, i), pg_temp.id({PATIENT}, i), starts_at, starts_at
from visit where {waiting};

update queue as q set last_ticket = (
    select coalesce(max(e.ticket), 0) from queue_entry as e where (e.clinic_id, e.queue_id) = (q.clinic_id, q.queue_id)
);

-- No trigger has seen them come.
insert into queue_stretch (clinic_id, queue_id, rank, due_at, ticket, waiting)
select e.clinic_id, e.queue_id, -9223372036854775808, '-infinity', 0, count(*)
from queue_entry as e where e.status = 'waiting' group by e.clinic_id, e.queue_id;
do $$
declare line record;
begin
    for line in select s.clinic_id, s.queue_id from queue_stretch as s loop
        call cut_stretches(line.clinic_id, line.queue_id);
    end loop;
end $$;

set session_replication_role = origin;
