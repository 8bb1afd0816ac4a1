-- Check-in: a patient says "I am here" for a booked visit.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table check_in (
    clinic_id uuid not null default current_clinic(),
    check_in_id uuid not null,
    appointment_id uuid not null,
    patient_id uuid not null,
    check_in_point_id uuid not null,
    checked_in_at timestamptz not null,
    method text not null check (method in ('rotating_code', 'printed_code')),
    actor_id uuid not null,
    primary key (clinic_id, check_in_id, checked_in_at),
    foreign key (clinic_id, appointment_id) references booking,
    foreign key (clinic_id, patient_id) references patient,
    foreign key (clinic_id, check_in_point_id) references check_in_point
) partition by range (checked_in_at);
create index check_in_at_point on check_in (clinic_id, check_in_point_id, checked_in_at);
create index check_in_of_patient on check_in (clinic_id, patient_id, checked_in_at);

-- Rule: one check-in per appointment. A unique key of a partitioned table must hold the partition key, so
-- the rule lives here. Nothing points into a partition, or it could not be detached.
create table check_in_claim (
    clinic_id uuid not null default current_clinic(),
    appointment_id uuid not null,
    patient_id uuid not null,
    check_in_id uuid not null,
    checked_in_at timestamptz not null,
    primary key (clinic_id, appointment_id),
    foreign key (clinic_id, appointment_id) references booking
);

-- When check-in opens and closes around a visit's start; the most specific row wins, NULL means any.
create table check_in_rule (
    clinic_id uuid not null default current_clinic() references clinic,
    rule_id uuid not null,
    site_id uuid,
    visit_type text,
    opens_minutes bigint not null check (opens_minutes between 0 and 1440),
    closes_minutes bigint not null check (closes_minutes between 0 and 1440),
    primary key (clinic_id, rule_id),
    unique nulls not distinct (clinic_id, site_id, visit_type),
    foreign key (clinic_id, site_id) references site
);

insert into partitioned (table_name, cut, clock, ahead) values
    ('check_in', 'month', 'clinic', interval '3 months');

call wall_in('check_in', 'select, insert', 'select, insert', 'own');
call wall_in('check_in_claim', 'select, insert, delete', 'select, insert', 'own');
call wall_in('check_in_rule', 'select, insert, update, delete', 'select', 'clinic');
