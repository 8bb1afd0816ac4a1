-- Clinics: clinics, their sites, and the points at which people arrive.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table clinic (
    clinic_id uuid primary key,
    name text not null,
    app_name text collate "C" not null unique check (app_name ~ '^[a-z0-9-]{3,40}$'),
    zone text not null
);

-- A site in the sense of FHIR Location: an address with a time zone.
create table site (
    clinic_id uuid not null default current_clinic() references clinic,
    site_id uuid not null,
    name text not null,
    zone text not null,
    address text not null,
    directions_url text,
    latitude double precision check (latitude between -90 and 90),
    longitude double precision check (longitude between -180 and 180),
    queue_mode text not null default 'practitioner' check (queue_mode in ('practitioner', 'pool')),
    primary key (clinic_id, site_id)
);

-- A door, desk or room with a code of its own. A code signed with a key older than `oldest_key` is retired.
create table check_in_point (
    clinic_id uuid not null default current_clinic(),
    check_in_point_id uuid not null,
    site_id uuid not null,
    name text not null,
    room text,
    qr_mode text not null default 'static' check (qr_mode in ('static', 'rotating')),
    verification text not null default 'none' check (verification in ('none', 'display', 'desk')),
    key_id bigint not null default 1 check (key_id between 1 and 32767),
    oldest_key bigint not null default 1,
    primary key (clinic_id, check_in_point_id),
    foreign key (clinic_id, site_id) references site,
    check (oldest_key between 1 and key_id)
);
create index check_in_point_site on check_in_point (clinic_id, site_id);

call wall_in('clinic', 'select, update', 'select', 'clinic');
call wall_in('site', 'select, insert, update', 'select', 'clinic');
call wall_in('check_in_point', 'select, insert, update', 'select', 'clinic');
call admit_platform('clinic', 'select, insert');
