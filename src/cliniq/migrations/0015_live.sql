-- Live: which history the versions count. `live_pass` holds passes that were used, from here on.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- One row, a part of the epoch. Renew it after a restore that kept server and timeline: a disk snapshot.
create table live_epoch (
    renewed uuid primary key
);
insert into live_epoch (renewed) values (gen_random_uuid());
grant select on live_epoch to cliniq_platform;
