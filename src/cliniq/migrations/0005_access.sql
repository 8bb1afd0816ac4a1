-- Access: who is what in which clinic, and what that allows.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The base roles of the code, written by the migration runner.
create table role_grant (
    role text not null,
    permission text not null,
    primary key (role, permission)
);

create table installation_role (
    person_id uuid not null references person,
    role text not null check (role = 'SUPER_ADMIN'),
    primary key (person_id, role)
);

create table membership (
    clinic_id uuid not null default current_clinic() references clinic,
    person_id uuid not null references account,
    role text not null check (role <> 'SUPER_ADMIN' and role <> 'PATIENT'),
    primary key (clinic_id, person_id, role)
);
create index membership_person on membership (person_id);

-- A person who sees patients in a clinic (FHIR PractitionerRole); `name` is what patients are shown.
create table practitioner (
    clinic_id uuid not null default current_clinic() references clinic,
    practitioner_id uuid not null,
    person_id uuid not null references person,
    name text not null,
    primary key (clinic_id, practitioner_id),
    unique (clinic_id, person_id)
);

call wall_in('membership', 'select, insert, delete', 'select', 'self');
call wall_in('practitioner', 'select, insert, update', 'select', 'clinic');
call admit_platform('membership', 'select, insert');
