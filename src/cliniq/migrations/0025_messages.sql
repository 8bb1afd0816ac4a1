-- Messages to people, asked for in the transaction that makes them true.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Whoever asks can neither see nor change what lies here. `sealed` holds the address and what is said; `kind`
-- alone tells nothing of anybody.
create table outgoing_message (
    message_id uuid primary key,
    kind text not null,
    sealed bytea not null,
    requested_at timestamptz not null
);
create index outgoing_message_order on outgoing_message (requested_at, message_id);
grant insert on outgoing_message to cliniq_clinic, cliniq_person;
grant select, insert, delete on outgoing_message to cliniq_platform;
