-- Sizes up to 16 KiB are not checked, so a lower maximum would have no effect.

update @schema@.payload_settings s set max_payload_bytes = 16384 where s.max_payload_bytes < 16384;

alter table @schema@.payload_settings
    drop constraint payload_settings_max_payload_bytes_positive,
    add constraint payload_settings_max_payload_bytes_at_least_16_kib check (max_payload_bytes >= 16384);
