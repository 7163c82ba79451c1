select version, checksum from @schema@.jobfn_migrations order by version
