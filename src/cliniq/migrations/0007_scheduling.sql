-- Scheduling: bookings, and the claims by which nobody is in two places at once.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Whatever can be busy: a practitioner or room (nobody's), or a patient. `number` is the whole server's.
create table resource (
    clinic_id uuid not null default current_clinic() references clinic,
    resource_id uuid not null,
    kind text not null check (kind in ('practitioner', 'patient', 'room', 'device')),
    patient_id uuid,
    number bigint not null generated always as identity check (number < 2147483648),
    primary key (clinic_id, resource_id),
    unique (clinic_id, number),
    foreign key (clinic_id, patient_id) references patient,
    check ((kind = 'patient') = (patient_id is not null))
);
create index resource_patient on resource (clinic_id, patient_id) where patient_id is not null;

-- Narrow and unpartitioned: what every foreign key to an appointment points at (same id), and what says
-- in which partition its story is.
create table booking (
    clinic_id uuid not null default current_clinic() references clinic,
    booking_id uuid not null,
    patient_id uuid not null,
    starts_at timestamptz not null,
    primary key (clinic_id, booking_id),
    foreign key (clinic_id, patient_id) references patient
);
create index booking_patient on booking (clinic_id, patient_id, starts_at);

-- A resource's whole minutes as one range of integers: the number above, the minute below. Equality of the
-- number and overlap of the time become one core operator, `&&`; no extension. Half-open: a visit may start
-- in the minute another ends. Minutes fill 32 bits until the year 10136.
create function slot_span(number bigint, starts_at timestamptz, ends_at timestamptz) returns int8range
language sql immutable strict
return int8range(
    (number << 32) + floor(extract(epoch from starts_at - timestamptz '1970-01-01 00:00Z') / 60)::bigint,
    (number << 32) + ceil(extract(epoch from ends_at - timestamptz '1970-01-01 00:00Z') / 60)::bigint
);
grant execute on function slot_span to cliniq_clinic, cliniq_person;

create table claim (
    clinic_id uuid not null default current_clinic(),
    booking_id uuid not null,
    patient_id uuid not null,
    number bigint not null,
    span int8range not null,
    primary key (clinic_id, booking_id, number),
    foreign key (clinic_id, booking_id) references booking on delete cascade,
    foreign key (clinic_id, number) references resource (clinic_id, number),
    constraint no_overlap exclude using gist (span with &&)
);

call wall_in('resource', 'select, insert', 'select, insert', 'shared');
call wall_in('booking', 'select, insert, update', 'select, insert, update', 'own');
call wall_in('claim', 'select, insert, delete', 'select, insert, delete', 'own');
