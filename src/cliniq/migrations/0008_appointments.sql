-- Appointments: the story of a booking. Cut by the month of the start; found through `booking`.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table appointment (
    clinic_id uuid not null default current_clinic(),
    appointment_id uuid not null,
    patient_id uuid not null,
    practitioner_id uuid not null,
    site_id uuid not null,
    visit_type text not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    status text not null,
    version bigint not null default 1,
    primary key (clinic_id, appointment_id, starts_at),
    foreign key (clinic_id, appointment_id) references booking,
    foreign key (clinic_id, patient_id) references patient,
    foreign key (clinic_id, practitioner_id) references practitioner,
    foreign key (clinic_id, site_id) references site,
    check (starts_at < ends_at),
    check (status in ('proposed', 'booked', 'confirmed', 'checked_in', 'in_progress', 'completed', 'cancelled',
        'no_show', 'waitlisted', 'entered_in_error'))
) partition by range (starts_at);
create index appointment_of_site on appointment (clinic_id, site_id, starts_at, appointment_id);
create index appointment_of_practitioner on appointment (clinic_id, practitioner_id, starts_at, appointment_id);
create index appointment_of_patient on appointment (clinic_id, patient_id, starts_at, appointment_id);
create index appointment_by_status on appointment (clinic_id, status, starts_at);

-- One row a change, written with it; never changed afterwards.
create table appointment_history (
    clinic_id uuid not null default current_clinic(),
    appointment_id uuid not null,
    patient_id uuid not null,
    version bigint not null,
    changed_at timestamptz not null,
    actor_id uuid not null,
    from_status text,
    to_status text not null,
    starts_at timestamptz not null,
    reason text not null default '',
    primary key (clinic_id, appointment_id, version, changed_at),
    foreign key (clinic_id, appointment_id) references booking
) partition by range (changed_at);

insert into partitioned (table_name, cut, clock, ahead) values
    ('appointment', 'month', 'clinic', interval '13 months'),
    ('appointment_history', 'month', 'clinic', interval '3 months');

call wall_in('appointment', 'select, insert, update', 'select, insert, update', 'own');
call wall_in('appointment_history', 'select, insert', 'select, insert', 'own');
