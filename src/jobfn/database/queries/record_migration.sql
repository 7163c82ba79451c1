insert into @schema@.jobfn_migrations (version, name, checksum) values ($1, $2, $3)
